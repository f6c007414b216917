"""Loads models in the ONNX Runtime of this interpreter, and says of each what came of it.

    python load.py MODELS ANSWERS

It needs onnxruntime alone. A line of MODELS is `[header, bodies]`: bytes in Base64, and any of the
bodies behind the header make a model. Many are loaded as one; where that fails, its halves are.
A line of ANSWERS is `[line, places, answer]`: null, what ONNX Runtime said, or `trying`, where one
of them crashed the process. Started again with the same files, it goes on where it was.
"""

import base64
import json
import os
import sys
from pathlib import Path

TRYING, CRASHED = "trying", "crashed"
#: bodies that are loaded as one model at first
TOGETHER = 64


def main():
    """Loads what was not loaded before."""
    models, answers = map(Path, sys.argv[1:3])
    answered, alone = earlier(answers)
    with models.open(encoding="utf-8") as lines, answers.open("a", encoding="utf-8") as written:

        def say(line, places, answer):
            written.write(json.dumps([line, places, answer]) + "\n")
            written.flush()

        def ask(line, header, bodies, places):
            say(line, places, TRYING)
            answer = load(header + b"".join(bodies[place] for place in places))
            if answer is not None and len(places) > 1:
                half = len(places) // 2
                ask(line, header, bodies, places[:half])
                ask(line, header, bodies, places[half:])
            else:
                say(line, places, answer)

        for line, places in alone:
            if len(places) == 1:
                say(line, places, CRASHED)
                answered.add((line, places[0]))
        single = {(line, place) for line, places in alone for place in places}
        for line, text in enumerate(lines):
            header, *bodies = [base64.b64decode(each) for each in json.loads(text)]
            left = [place for place in range(len(bodies)) if (line, place) not in answered]
            for place in left:
                if (line, place) in single:
                    ask(line, header, bodies, [place])
            left = [place for place in left if (line, place) not in single]
            for first in range(0, len(left), TOGETHER):
                ask(line, header, bodies, left[first : first + TOGETHER])


def earlier(answers):
    """What is answered, and what was tried when the process ended."""
    answered, trying = set(), {}
    if answers.exists():
        with answers.open(encoding="utf-8") as lines:
            for text in lines:
                line, places, answer = json.loads(text)
                if answer == TRYING:
                    trying[line] = places
                else:
                    answered.update((line, place) for place in places)
    missing = [(n, p) for n, p in trying.items() if not answered >= {(n, place) for place in p}]
    return answered, missing


def load(model):
    """What ONNX Runtime says of a model; None where it opens a session."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    onnxruntime.set_default_logger_severity(4)
    try:
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return str(error)
    return None


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # some releases crash at an orderly end
