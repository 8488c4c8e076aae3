"""A client of one gateway that sends what it is given, byte by byte: ``odd_client.py PORT KEY`` on the host.

Reads a JSON list of (path, body) from stdin, sends eight at a time, and meanwhile asks one plain question again and again;
prints ``{"answers": [[status, text], ...], "others": [status, ...]}``. Status 0: no answer.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import sys
import threading

PORT, KEY = int(sys.argv[1]), sys.argv[2]
PLAIN = json.loads(sys.argv[3])


def ask(request: list[str]) -> tuple[int, str]:
    path, body = request
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    try:
        line = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
        line.request("POST", path, body.encode("utf-8", "surrogatepass"), headers)
        answer = line.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")[:500]
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)


def ask_again(over: threading.Event, found: list[int]) -> None:
    while not over.is_set():
        found.append(ask(PLAIN)[0])


def main() -> None:
    over, others = threading.Event(), list[int]()
    bystander = threading.Thread(target=ask_again, args=(over, others))
    bystander.start()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, json.load(sys.stdin)))
    over.set()
    bystander.join()
    json.dump({"answers": answers, "others": others}, sys.stdout)


if __name__ == "__main__":
    main()
