"""Pages that a reader understands without medtune: HTML that needs nothing beside itself, and Markdown."""
