"""Commands about who made and who approved a bundle."""
