"""Images, decisions and jobs with CATImage's own client.

pip install catimage
"""

import os

from catimage import Client

PROMPT = "two small red rings on a green wall"

# The API key is the environment variable CATIMAGE_API_KEY, or the argument api_key.
with Client(os.environ.get("CATIMAGE_URL", "http://127.0.0.1:3000")) as client:
    images = client.generate(PROMPT, n=2, quality="medium", seed=7)
    print("candidate", images.candidate, "cost", images.cost, "saved", images.saved)
    print("wrote", *images.save("."))
    print("size", images.pil()[0].size)

    one, other = client.route([PROMPT, "an empty white wall"])
    print("routed", one.candidate, other.candidate)

    for image in client.stream(PROMPT, partial_images=2):
        print("finished" if image.partial is None else "partial", len(image.file), "bytes")

    job = client.submit(PROMPT, n=4)  # the service answers it also after a restart
    print("job", len(client.wait(job.job_id)), "images")
