"""One town: all textures of its streets, painted once into an atlas and shared by several sequences."""

from __future__ import annotations

from data_builders.synthetic_street.art import riders, sprites, surfaces
from data_builders.synthetic_street.art.vehicles import add_vehicles
from data_builders.synthetic_street.engine.atlas import Atlas
from data_builders.synthetic_street.engine.noise import Rng
from data_builders.synthetic_street.engine.world import Town

SKIES = ("clear", "cloudy", "overcast", "dusk")


def paint_town(rng: Rng) -> Town:
    """Returns a town with all its textures; takes about 0.5 s."""
    atlas = Atlas()
    for lanes in (2, 3, 4):
        for _ in range(2):
            atlas.add(f"road{lanes}", surfaces.asphalt(rng, 512, 320, lanes=lanes), tile=True)
    atlas.add("asphalt", surfaces.asphalt(rng, 256, 256), tile=True)
    for _ in range(3):
        atlas.add("pavement", surfaces.pavement(rng), tile=True)
        atlas.add("grass", surfaces.grass(rng), tile=True)
        atlas.add("ground_floor", surfaces.ground_floor(rng), tile=True)
        atlas.add("ground_floor", surfaces.ground_floor(rng), tile=True)
        atlas.add("wall", surfaces.bricks(rng), tile=True)
        atlas.add("wall", surfaces.plaster(rng), tile=True)
        atlas.add("bush", *sprites.bush(rng))
        atlas.add("hedge", *sprites.hedge(rng), tile=True)
        atlas.add("light", *sprites.traffic_light(rng))
        atlas.add("bicycle", *riders.bicycle(rng))
        atlas.add("motorcycle", *riders.motorcycle(rng))
    for _ in range(10):
        atlas.add("facade", surfaces.facade(rng), tile=True)
    for _ in range(7):
        atlas.add("tree", *sprites.tree(rng))
        atlas.add("sign", *sprites.sign(rng))
    for _ in range(3):
        atlas.add("crown", *sprites.tree(rng, trunk=False))
    for _ in range(5):
        atlas.add("fence", *sprites.fence(rng), tile=True)
    for _ in range(4):
        for view in ("front", "back", "side"):
            atlas.add(f"torso_{view}", *riders.torso(rng, view=view))
        atlas.add("leg", *riders.limb(rng, leg=True))
        atlas.add("arm", *riders.limb(rng, leg=False))
    for view in ("front", "back", "side"):
        for _ in range(2):
            atlas.add(f"rider_{view}", *riders.torso(rng, view=view, helmet=True))
    atlas.add("bicycle_rear", *riders.bicycle_rear(rng))
    atlas.add("motorcycle_rear", *riders.motorcycle_rear(rng))
    for _ in range(2):
        atlas.add("roof", surfaces.roof(rng), tile=True)
    atlas.add("kerb", surfaces.plaster(rng, 64), tile=True)
    atlas.add("metal", surfaces.metal(rng))
    for _ in range(2):
        atlas.add("bonnet", *sprites.bonnet(rng))
    atlas.add("zebra", *sprites.stripes(rng))
    atlas.add("arrow", *sprites.arrow(rng))
    for kind in SKIES:
        for _ in range(2):
            atlas.add(f"sky_{kind}", surfaces.sky(rng, kind))
    fleet = add_vehicles(rng, atlas)
    return Town(atlas.pack(), fleet)
