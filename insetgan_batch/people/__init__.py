"""Rendered people: adults drawn from numbers, with exact masks, labels, joints and boxes."""
