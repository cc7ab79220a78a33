"""Shared parts of the ablations: rows with their numbers of seeds, and options that are passed on to a recipe."""


def read_rows(text, seeds):
    """Returns name -> number of seeds of a text such as "teacher*5+student7_uniform".

    seeds: of rows without a number. Raises ValueError for numbers below 1, and without rows.
    """
    if seeds < 1:
        raise ValueError(f"recipe option seeds={seeds} must be 1 or more.")
    rows = {}
    for word in filter(None, text.split("+")):
        name, star, number = word.partition("*")
        if star and (not number.isdecimal() or int(number) < 1):
            raise ValueError(f"recipe option rows has {word!r}; write a number of seeds after *, such as {name}*3.")
        rows[name] = int(number or seeds)
    if not rows:
        raise ValueError(f"recipe option rows={text!r} names no row.")
    return rows


def with_baseline(rows, name):
    """Returns the rows, with the one that the others are compared to, for as many seeds as any of them has."""
    return rows if name in rows else {name: max(rows.values()), **rows}


def arguments(**options):
    """Returns the argument of a recipe, such as "preset=camvid,steps=300"; options without value are left out."""
    return ",".join(f"{name}={value}" for name, value in options.items() if value)


def add(config, name, section):
    """Adds a stage, unless it is there; returns its name."""
    if name not in config:
        config[name] = section
        config.stages = (*config.stages, name)
    return name


def add_to(names, config, name, section):
    """Adds a stage, unless it is there, and its name to a list of stages; returns the name."""
    if name not in config:
        config[name] = section
        names.append(name)
    return name


def by_seed(names):
    """Returns the stages that all seeds share, then those of one seed after the other."""
    return sorted(names, key=lambda name: int(name.rpartition("_seed")[2]) if "_seed" in name else -1)


def read_number(option, text):
    """Returns the whole number of a text. Raises ValueError unless it is 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"recipe option {option} holds {text!r}; write numbers from 1 with + between them, such as 1+3."
        )
    return int(text)


def read_size(option, text):
    """Returns (height, width) of a text such as "128x256"."""
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise ValueError(f"recipe option {option}={text!r} is no size; write HEIGHTxWIDTH in pixels, such as 128x256.")
    return tuple(map(int, sides))
