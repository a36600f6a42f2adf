"""Seeded spine phantoms: anatomy, contrast, scanner, and the pair of MR and CT made of them."""
