"""The bill of materials of a bundle: CycloneDX 1.7 with the packages inside images and the cards of models."""
