"""The BentoML services of CATImage, written by the stage package. Importing it reads no files."""

import bentoml

from catimage.serving.bento.services import (
    GroupProcess,
    RouterProcess,
    depends,
    group_options,
    router_options,
)


@bentoml.service(name="generators", **group_options(gpus=0))
class Generators(GroupProcess):
    """Generators on the device auto."""

    generators = (
        "tiny-turbo",
        "tiny-infinity",
        "tiny-lightning",
        "tiny-sd",
        "tiny-patterns",
    )
    device = "auto"
    drain_seconds = 15.0


@bentoml.service(name="router", **router_options())
class Router(RouterProcess):
    """Routes each prompt to a candidate: OpenAI's image API, and the playground at /."""

    drain_seconds = 15.0
    generators = depends(Generators)
