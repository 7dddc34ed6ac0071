"""What is looked at, layer by layer, in every model that a study has trained."""
