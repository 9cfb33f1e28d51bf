"""Results as text: table, JSON, CSV. The only folder that imports rich, jinja2 or matplotlib."""
