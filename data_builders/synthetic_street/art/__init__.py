"""Contents of streets: painted textures and sprites, and the objects that are built from them."""
