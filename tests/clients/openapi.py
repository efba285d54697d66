"""Validates an OpenAPI document with PyPI's `openapi-spec-validator`. Argument: its URL. Prints {"version":...}, or {"error":...}.
"""

import json
import sys
import urllib.request

from openapi_spec_validator import validate

with urllib.request.urlopen(sys.argv[1]) as response:
    document = json.load(response)
try:
    validate(document)
    print(json.dumps({"version": document["openapi"]}))
except Exception as error:
    print(json.dumps({"error": str(error)}))
