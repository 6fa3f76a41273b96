"""Numbers to pictures, in one style; matplotlib lives here, without pyplot and without global settings."""
