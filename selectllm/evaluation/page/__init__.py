"""What an evaluation found, for people: sheets of facts, tables and pictures, as a page in HTML or as Markdown."""
