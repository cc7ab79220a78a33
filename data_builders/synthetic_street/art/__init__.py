"""What streets contain: painted textures and sprites, and the objects that are built from them."""
