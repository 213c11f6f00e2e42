"""What a folder says of itself: ``about.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neurorecon.datasets.arrays.options import ArraysOptions
from neurorecon.errors import InputError


class About(BaseModel):
    """Facts about the data.

    Parameters
    ----------
    title, citation, terms, units : str
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(default="Arrays of one's own", min_length=1, pattern=r"^[^\n]*$")
    citation: str = Field(default="not stated", min_length=1)
    terms: str = Field(default="not stated", min_length=1)
    units: str = Field(default="not stated", min_length=1)

    def with_options(self, options: ArraysOptions) -> About:
        """Return what the recipe says, else what the folder says."""
        stated = {name: getattr(options, name) for name in type(self).model_fields}
        return self.model_copy(update={name: value for name, value in stated.items() if value is not None})


def read_about(path: Path) -> About:
    """Read ``about.toml``; where there is none, nothing is stated.

    Raises
    ------
    InputError
        Where it cannot be read, or has keys that do not exist.
    """
    if not path.is_file():
        return About()
    try:
        return About(**tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        wrong = str(error)
    raise InputError(
        f"{path} cannot be used",
        given=wrong,
        expected=f"TOML with the keys {', '.join(About.model_fields)}",
        todo="mend the file, or delete it: it is optional",
    )
