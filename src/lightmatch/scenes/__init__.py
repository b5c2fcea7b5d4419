"""The procedural world: textured 3D scenes from a seed, rendered with exact depth and pose."""

from lightmatch.scenes.cameras import camera_path, camera_ring, look_at, pinhole
from lightmatch.scenes.demo import RenderedScene, demo_scene
from lightmatch.scenes.render import Rendering, render
from lightmatch.scenes.surfaces import Surface
from lightmatch.scenes.textures import procedural_textures
from lightmatch.scenes.world import World, WorldConfig, build_world

__all__ = [
    "RenderedScene",
    "Rendering",
    "Surface",
    "World",
    "WorldConfig",
    "build_world",
    "camera_path",
    "camera_ring",
    "demo_scene",
    "look_at",
    "pinhole",
    "procedural_textures",
    "render",
]
