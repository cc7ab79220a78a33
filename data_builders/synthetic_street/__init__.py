"""The embedded default: a procedural street video with exact labels and exact optical flow.

    synthetic_street_dataset_builder   writes the records
    generator                          renders sequences, frame by frame
    street layout traffic              lay out one street and its traffic
    town                               paints the textures that the streets of a town share
    art/                               contents of streets: textures, buildings, vehicles, people
    engine/                            draws any scene; imports nothing from the others

Every module imports from the lines below it only. Published scores rest on the bytes that this code writes.
"""
