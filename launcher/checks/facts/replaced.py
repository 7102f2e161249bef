"""A PyTorch, or a package that fits one PyTorch alone, that stands in another's place.  Pure."""

from __future__ import annotations

from launcher.model.evidence import Beside, Evidence, TorchReport

_PAGE = "pytorch.org/get-started/previous-versions"


def swapped(seen: Evidence) -> str | None:
    """Return what is imported as torch, where that is not the image's."""
    report, image = seen.torch, seen.image_torch
    if report is None or image is None or not report.origin:
        return None
    inside = report.origin.startswith(f"{image.prefix}/")
    # Where it cannot be imported, nobody knows what it is.
    if inside and (report.version is None or _same(image.version, report.version)):
        return None
    what = f"PyTorch {report.version}" if report.version else "a PyTorch that cannot be imported"
    return f"{what} in {_place(report)} takes the place of the image's {image.version}"


def image_again(seen: Evidence) -> str:
    """Return how the image's own PyTorch is taken again."""
    return _own_again(
        seen, _place(seen.torch) if seen.torch else "", "torch torchvision torchaudio"
    )


def mismatched(seen: Evidence) -> str | None:
    """Return which package beside PyTorch was built for another one."""
    report = seen.torch
    if report is None or (wrong := _mismatched(seen)) is None:
        return None
    if _is_for_another(wrong, report):
        built = f"is built for PyTorch {wrong.torch}; {report.version} is here"
    else:
        built = f"takes the place of the image's {_of_image(seen, wrong.name)}"
    return f"{wrong.name} {wrong.version} in {wrong.place} {built}"


def fitting_again(seen: Evidence) -> str:
    """Return how the one that fits is had."""
    wrong = _mismatched(seen)
    if wrong is None:  # asked of a machine that is well
        return f"in the container: the release that {_PAGE} names"
    if _of_image(seen, wrong.name):
        return _own_again(seen, wrong.place, wrong.name)
    version = seen.torch.version if seen.torch else None
    return (
        f"in the container: pip install --force-reinstall --no-deps {wrong.name}==…, the release "
        f"that {_PAGE} names beside PyTorch {version}"
    )


def _mismatched(seen: Evidence) -> Beside | None:
    report = seen.torch
    if report is None or report.version is None or swapped(seen):
        return None  # what was built for the image's PyTorch does not fit another anyway
    for one in report.beside:
        own = _of_image(seen, one.name)
        if own and not _same(own, one.version):
            return one
        if not own and _is_for_another(one, report):
            return one
    return None


def _is_for_another(one: Beside, report: TorchReport) -> bool:
    """Return whether it asks for another release; builds for other CUDAs take the same."""
    wanted = (one.torch or "").partition("+")[0]
    return wanted not in ("", (report.version or "").partition("+")[0])


def _of_image(seen: Evidence, name: str) -> str | None:
    """Return the version that the image was built with: what that asks for is its builder's."""
    return dict(seen.image_torch.beside).get(name) if seen.image_torch else None


def _same(wanted: str, found: str) -> bool:
    """Return whether a version is that of a build: "2.6.0" is what 2.6.0+cu124 is a build of."""
    return wanted in (found, found.partition("+")[0])


def _place(report: TorchReport) -> str:
    return (report.origin or "").removesuffix("/torch/__init__.py")


def _own_again(seen: Evidence, place: str, names: str) -> str:
    if seen.image_torch and f"{place}/".startswith(f"{seen.image_torch.prefix}/"):
        return "a new container of the image has its own again"
    if place in seen.environ.get("PYTHONPATH", "").split(":"):
        return f"in the container: take {place} out of PYTHONPATH"
    stay = "the image's stay" if " " in names else "the image's stays"
    return f"in the container: pip uninstall {names}; {stay}"
