"""The HTML page of a run: `page` is the door, and reads as the story of the page."""
