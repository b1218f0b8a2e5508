"""medrecon: volumes from too little data, with pretrained 2D diffusion priors."""

from importlib import import_module as _import_module
from pathlib import Path as _Path

__version__ = "0.1.0"

# In a source checkout the sub-packages `physics` and `data` stand beside this folder, not in it;
# an installed copy has them inside, where the ordinary import finds them.
_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "physics" / "__init__.py").is_file():
    __path__.append(str(_root))

# Names are imported on first use: `import medrecon` and `medrecon --help` must not load torch.
_PUBLIC = {
    "Geometry": "medrecon.data.volume",
    "Volume": "medrecon.data.volume",
    "read": "medrecon.data.formats",
    "write": "medrecon.data.formats",
    "LinearOperator": "medrecon.physics.linop",
    "CTGeometry": "medrecon.physics.ct_geometry",
    "CTOperator": "medrecon.physics.ct",
    "Problem": "medrecon.problem",
    "Result": "medrecon.engine",
    "reconstruct": "medrecon.engine",
    "load_prior": "medrecon.prior",
    "MedreconError": "medrecon.errors",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(_import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'medrecon' has no attribute {name!r}")
