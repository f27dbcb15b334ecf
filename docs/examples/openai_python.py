"""Images with OpenAI's Python client: only the base URL and the key differ.

pip install openai
"""

import base64
import os
from pathlib import Path

from openai import BadRequestError, OpenAI

client = OpenAI(
    base_url=os.environ.get("CATIMAGE_URL", "http://127.0.0.1:3000") + "/v1",
    api_key=os.environ.get("CATIMAGE_API_KEY") or "none",
)
PROMPT = "two small red rings on a green wall"

# The router selects the candidate. The fields of OpenAI's API are accepted.
answer = client.images.generate(prompt=PROMPT, model="auto", n=2, quality="high", user="anna")
for i, image in enumerate(answer.data):
    Path(f"openai_python_{i}.png").write_bytes(base64.b64decode(image.b64_json))
summary = answer.to_dict()["catimage"]
print("candidate", summary["candidate"], "cost", summary["cost"], "saved", summary["saved"])

# Fields of CATImage are in extra_body; the name of a candidate replaces the router.
cheapest = min(
    (m for m in client.models.list().to_dict()["data"] if "cost" in m),
    key=lambda model: model["cost"],
)["id"]
answer = client.images.generate(prompt=PROMPT, model=cheapest, extra_body={"seed": 7})
print("pinned", answer.to_dict()["catimage"]["candidate"])
print("model", client.models.retrieve(cheapest).id)

# Partial images while the image is generated.
for event in client.images.generate(prompt=PROMPT, stream=True, partial_images=2):
    print("event", event.type)

# Errors have OpenAI's classes.
try:
    client.images.generate(prompt=PROMPT, background="transparent")
except BadRequestError as error:
    print("error", error.param)
