"""The answers of the service as typed values. ``document`` is always the whole answer."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

Document = Mapping[str, Any]


@dataclass(frozen=True)
class AnsweredImages:
    """The answer to a request for images.

    Attributes:
        files: the encoded images; empty bytes for an image that the safety checker flagged.
        format: ``png``, ``jpeg`` or ``webp``.
        candidate: the candidate that made the images.
        cost: total cost of the images.
        cost_unit: unit of ``cost`` and ``saved``.
        saved: cost of the same images with the reference candidate, minus ``cost``.
        reference: the reference candidate.
        seed: seed of the first image; the next images have the next seeds.
        seconds: time of each stage in the service.
        request_id: identifier of the request in the logs of the service.
        document: the whole answer.
    """

    files: tuple[bytes, ...]
    format: str
    candidate: str
    cost: float
    cost_unit: str
    saved: float
    reference: str
    seed: int
    seconds: Mapping[str, float]
    request_id: str
    document: Document = field(repr=False)

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Image]:
        return iter(self.pil())

    def pil(self) -> list[Image]:
        """Return the images that were not flagged, decoded by Pillow."""
        from PIL import Image as pillow

        return [pillow.open(io.BytesIO(file)) for file in self.files if file]

    def save(self, folder: Path | str) -> list[Path]:
        """Write the images as ``<seed>.<format>`` to a folder that exists; return the paths."""
        paths = []
        for i, file in enumerate(self.files):
            if file:
                path = Path(folder) / f"{self.seed + i}.{self.format}"
                path.write_bytes(file)
                paths.append(path)
        return paths


@dataclass(frozen=True)
class RoutedPrompt:
    """The decision of the service for one prompt.

    Attributes:
        prompt: the prompt.
        candidate: the selected candidate.
        cost: cost of one image of the candidate.
        cost_unit: unit of ``cost``.
        predicted_quality: predicted quality of the candidate; None without a router.
        lam: lambda of the decision.
        document: the whole decision.
    """

    prompt: str
    candidate: str
    cost: float
    cost_unit: str
    predicted_quality: float | None
    lam: float | None
    document: Document = field(repr=False)


@dataclass(frozen=True)
class StreamedImage:
    """A partial or finished image of a stream.

    Attributes:
        file: the encoded image.
        index: position of the image in the request.
        partial: number of the partial image, from 0; None for a finished image.
        document: the whole event; the last one has the object ``catimage``.
    """

    file: bytes
    index: int
    partial: int | None
    document: Document = field(repr=False)


@dataclass(frozen=True)
class SubmittedJob:
    """A request for images that is answered later.

    Attributes:
        job_id: identifier of the job.
        status: ``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``.
        document: the whole job.
    """

    job_id: str
    status: str
    document: Document = field(repr=False)

    @property
    def finished(self) -> bool:
        """Whether the job has ended."""
        return self.status in ("succeeded", "failed", "cancelled")


def images_of(document: Document, fetch: Callable[[str], bytes]) -> AnsweredImages:
    """Return the images of an answer; ``fetch`` downloads those that are URLs."""
    summary = document["catimage"]
    return AnsweredImages(
        files=tuple(_file(item, fetch) for item in document["data"]),
        format=document.get("output_format", "png"),
        candidate=summary["candidate"],
        cost=summary["cost"],
        cost_unit=summary["cost_unit"],
        saved=summary["saved"],
        reference=summary["reference"],
        seed=summary["seed"],
        seconds=summary["seconds"],
        request_id=summary["request_id"],
        document=document,
    )


def streamed_image(document: Document) -> StreamedImage:
    """Return the image of an event of a stream."""
    return StreamedImage(
        base64.b64decode(document["b64_json"]),
        document.get("image_index", 0),
        document.get("partial_image_index"),
        document,
    )


def routed_prompt(document: Document, prompt: str) -> RoutedPrompt:
    """Return the decision for ``prompt``."""
    return RoutedPrompt(
        prompt,
        document["candidate"],
        document["cost"],
        document["cost_unit"],
        document.get("predicted_quality"),
        document.get("lambda"),
        document,
    )


def submitted_job(document: Document) -> SubmittedJob:
    """Return a job."""
    return SubmittedJob(document["id"], document["status"], document)


def _file(item: Document, fetch: Callable[[str], bytes]) -> bytes:
    if "url" in item:
        return fetch(item["url"])
    return base64.b64decode(item.get("b64_json", ""))
