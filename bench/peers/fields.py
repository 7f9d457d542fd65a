"""What the measured events hold, by type: the fields of `data` in the order of the schema files, with the type of each."""
import json, pathlib

TYPES = ["web.event", "http.access", "game.result", "quote.trade"]
ENVELOPE = ["id", "source", "type", "time", "subject", "userid", "sessionid", "specversion"]


def fields(event_type):
    """[(name, kind)]: kind is integer, number, boolean, string, json, decimal:PRECISION:SCALE, date-time, date or list (of integers)."""
    folder = pathlib.Path(__file__).parent / "../../schemas"
    schema = json.loads((folder / f"{event_type}.json").read_text())
    found = []
    for name, field in schema["properties"].items():
        if field.get("x-json"):
            kind = "json"
        elif "x-decimal" in field:
            kind = "decimal:{}:{}".format(*field["x-decimal"])
        elif field["type"] == "array":
            kind = "list"
        else:
            kind = field.get("format", field["type"])
        found.append((name, kind))
    return found
