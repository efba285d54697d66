"""Validates the JSON files of a folder, in the order of their names, against a JSON Schema.

Arguments: the schema, the folder. Prints {"schema":true} where the schema is one itself, then a line with "file" and
"wrong", the messages of what is wrong, for each file.
"""
import json
import pathlib
import sys

from jsonschema import Draft202012Validator

schema, folder = sys.argv[1:]
schema = json.loads(pathlib.Path(schema).read_text())
Draft202012Validator.check_schema(schema)
print(json.dumps({"schema": schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]}))
validator = Draft202012Validator(schema)
for path in sorted(pathlib.Path(folder).iterdir()):
    wrong = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(json.loads(path.read_text()))]
    print(json.dumps({"file": path.name, "wrong": wrong}))
