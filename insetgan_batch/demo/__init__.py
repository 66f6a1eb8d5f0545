"""The bundled weights: the networks, how they are trained, and what is checked of them."""
