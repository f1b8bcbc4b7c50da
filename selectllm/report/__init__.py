"""What a run leaves behind for people and programs: its summary, its output folder and its page."""
