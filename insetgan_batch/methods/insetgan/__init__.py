"""InsetGAN: a person of a canvas generator, with parts of inset generators sewn in."""
