"""JSON as people read it: indented, but a list of plain values on one line."""

import json
import re


def text(document):
    """Ends with a newline."""
    plain = json.dumps(document, indent=1)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", plain) + "\n"
