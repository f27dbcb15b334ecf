#!/usr/bin/env bash
# Images, a decision and a stream with curl; writes curl.png. Needs bash, curl and python3.
set -euo pipefail
URL="${CATIMAGE_URL:-http://127.0.0.1:3000}"
KEY="${CATIMAGE_API_KEY:-}"
PROMPT="two small red rings on a green wall"

ask() {  # ask PATH BODY: send a JSON body and print the answer
  curl --silent --show-error --fail-with-body --retry 2 --max-time 120 "$URL$1" \
    -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" -d "$2"
}

# One image; quality is a preset of the budget.
ask /v1/images/generations "{\"prompt\": \"$PROMPT\", \"quality\": \"low\", \"seed\": 7}" |
  python3 -c '
import base64, json, sys
answer = json.load(sys.stdin)
open("curl.png", "wb").write(base64.b64decode(answer["data"][0]["b64_json"]))
summary = answer["catimage"]
print("candidate", summary["candidate"], "cost", summary["cost"], "saved", summary["saved"])'

# The decision for two prompts, without images.
ask /v1/route "{\"prompt\": [\"$PROMPT\", \"an empty white wall\"]}" |
  python3 -c 'import json, sys; print("routed", *(d["candidate"] for d in json.load(sys.stdin)["data"]))'

# A stream of server-sent events, with two partial images.
ask /v1/images/generations "{\"prompt\": \"$PROMPT\", \"stream\": true, \"partial_images\": 2}" |
  sed -n 's/^event: /event /p'
