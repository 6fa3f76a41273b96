"""What a sweep file may say. Imports neither torch nor an engine, so that a wrong file is refused at once."""
