"""The parts of nginx.conf that are the same for every kit, and small pieces to build the rest from.

Rules: no path outside ``@TEMP@`` is written; every status that nginx itself answers with has a JSON page; a connection serves
one request, so that a reload, which closes idle connections, never meets a request on its way; what is said about a directive
is why it is there.
"""

from __future__ import annotations

import json
from typing import Dict, Tuple

# Status -> (status that the client sees, type of error, message). 502 is what nginx finds when an engine does not answer.
REFUSALS: Dict[int, Tuple[int, str, str]] = {
    400: (400, "invalid_request_error", "the request is not valid HTTP"),
    401: (401, "authentication_error", "a valid key is required: Authorization: Bearer KEY"),
    403: (403, "permission_error", "this is not allowed"),
    404: (404, "not_found_error", "there is nothing at this path"),
    405: (405, "invalid_request_error", "this path does not know that method"),
    408: (408, "timeout_error", "the request did not arrive in time"),
    411: (411, "invalid_request_error", "the length of the request is required"),
    413: (413, "invalid_request_error", "the request is larger than 64 MiB"),
    414: (414, "invalid_request_error", "the address is too long"),
    429: (429, "rate_limit_error", "too many requests, or large ones, at once with this key, or without one"),
    494: (400, "invalid_request_error", "a header is too large"),
    497: (400, "invalid_request_error", "this port speaks HTTPS"),
    500: (500, "server_error", "the gateway failed"),
    502: (503, "service_unavailable", "the engine does not answer: it is starting or down"),
    503: (503, "service_unavailable", "the engine does not answer: it is starting or down"),
    504: (504, "timeout_error", "the engine did not answer in time"),
}

NAMES = """\
    # Names are looked up while running. A name that is unknown right now is an engine that is down.
    resolver @RESOLVER@ valid=5s ipv6=off;
    resolver_timeout 2s;"""

HTTP = """\
# Written by offline-kit from config/models.json and .env: do not edit, the next 'deploy.sh restart' writes it again.
worker_processes 2;
worker_rlimit_nofile 40000;
pid @TEMP@/nginx.pid;
error_log stderr warn;
# More than one address can open at a time (some 28,000 ports): idle ones end with client_header_timeout.
events { worker_connections 32768; }
http {
    default_type application/json;
    types { }
    server_tokens off;
    client_body_temp_path @TEMP@/client_body;
    proxy_temp_path @TEMP@/proxy;
    fastcgi_temp_path @TEMP@/fastcgi;
    uwsgi_temp_path @TEMP@/uwsgi;
    scgi_temp_path @TEMP@/scgi;

    log_format json escape=json '{"time":"$time_iso8601","request_id":"$request_name","client":"$remote_addr",'
        '"key":"$key_name","port":"$server_port","method":"$request_method","path":"$uri","status":$status_number,'
        '"bytes_in":$request_length,"bytes_out":$bytes_sent,"seconds":$request_time,"engine":"$engine",'
        '"replica":"$upstream_http_x_offline_kit_engine","engine_status":"$upstream_status","engine_seconds":"$upstream_response_time"}';
    # An engine that answers without any header has the status 009, which is no number in JSON.
    map $status $status_number { default 0; "~^0*(?<digits>[0-9]+)$" $digits; }
    # Who has no key and asks too fast is told so, and leaves the log to others: what came before that is in it.
    map "$key_name:$status" $logged { default 1; ":429" 0; }
    access_log /dev/stdout json if=$logged;

@NAMES@

    map $http_authorization $key_name { default ""; include @FOLDER@/keys.conf; }
    map $http_x_request_id $request_name { default $request_id; "~^[A-Za-z0-9._-]{1,64}$" $http_x_request_id; }
    map $request_uri $sent_path { default ""; "~^(?<path_only>[^?]*)" $path_only; }
    map $status $challenge { default ""; 401 'Bearer realm="offline-kit"'; }
    map $status $retry { default ""; 429 1; 503 5; }
    limit_conn_zone $key_name zone=keys:1m;
    limit_conn keys @LIMIT@;
    # A body above 1 MiB lies in @TEMP@ until its answer has ended. One key's fit there, whatever their number: 24 of 64 MiB, or
    # of a length that is not told, and 48 below 10 MB.
    map "$http_transfer_encoding:$content_length" $large { default ""; "~^[^:]" $key_name; "~^:[0-9]{8}" $key_name; }
    map $content_length $medium { default ""; "~^[0-9]{7}$" $key_name; }
    limit_conn_zone $large zone=large:1m;
    limit_conn_zone $medium zone=medium:1m;
    limit_conn large 24;
    limit_conn medium 48;
    limit_conn_status 429;
    limit_conn_log_level info;
    # Without a key: answered, but not as fast as somebody who guesses keys can ask. Whoever has a key is never counted here.
    map $key_name $without_key { default ""; "" $binary_remote_addr; }
    limit_req_zone $without_key zone=refused:4m rate=10r/s;
    limit_req_zone $without_key zone=health:4m rate=50r/s;
    limit_req_status 429;
    limit_req_log_level info;
    recursive_error_pages on;
    add_header X-Request-ID $request_name always;
    add_header WWW-Authenticate $challenge always;
    add_header Retry-After $retry always;

    client_max_body_size 64m;
    client_body_buffer_size 1m;
    client_header_timeout 10s;
    client_body_timeout 60s;
    # What comes in after a refusal is read so that the client sees it, and not for long.
    lingering_time 5s;
    lingering_timeout 2s;
    # A key has at most 512 characters.
    large_client_header_buffers 2 8k;
    max_ranges 0;
    send_timeout 300s;
    keepalive_timeout 0;
    merge_slashes off;
    absolute_redirect off;

    proxy_http_version 1.1;
    proxy_pass_request_headers off;
    proxy_set_header Host engine;
    proxy_set_header Connection "";
    proxy_set_header Content-Type $content_type;
    proxy_set_header Accept $http_accept;
    proxy_set_header X-Request-Id $request_name;
    proxy_hide_header X-Request-Id;
    proxy_hide_header Server;
    proxy_hide_header X-Offline-Kit-Engine;
    # Only the router tells nginx where to go on; an engine does not.
    proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset;
    # A token goes to the client as soon as it is made, and a long answer may think for long.
    proxy_buffering off;
    proxy_max_temp_file_size 0;
    proxy_connect_timeout 5s;
    proxy_send_timeout 60s;
    proxy_read_timeout 3600s;
    # A question that failed half-way is the client's to ask again.
    proxy_next_upstream off;

@SERVERS@
}
"""


def page(path: str, *lines: str, methods: str = "GET|HEAD", key: bool = False) -> str:
    """One exact path. ``methods`` as in an expression; ``key``: whether a known key is required."""
    # The path as it was sent must be the path as nginx understood it.
    checks = ["if ($sent_path != $uri) { return 404; }"]
    checks += ['if ($key_name = "") { return 401; }'] if key else []
    checks.append(f"if ($request_method !~ ^({methods})$) {{ return 405; }}")
    body = "\n".join(f"            {line}" for line in [*checks, *lines])
    return f"        location = {path} {{\n{body}\n        }}"


def answer(status: int, kind: str, message: str) -> str:
    """The body of a refusal, in the shape of OpenAI's errors."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}})


def refusals() -> str:
    """The error pages of one server."""
    lines = []
    for status, (shown, _, _) in REFUSALS.items():
        # A path and not a named location: nginx cannot go to one of those from a request line that it could not read.
        lines.append(f"        error_page {status} ={shown} /.refuse/{status};")
        lines.append(f"        location = /.refuse/{status} {{ internal; {_refusal(status)} }}")
    return "\n".join(lines)


def _refusal(status: int) -> str:
    # Its own limit is off, or a request that is too large would be refused once more on the way there.
    body = "client_max_body_size 0;"
    shown, kind, message = REFUSALS[status]
    if status == 429:
        return f"{body} return {shown} '{answer(shown, kind, message)}\\n';"
    # A file, since a limit counts only where nothing is answered before it. It counts those without a key.
    return f"{body} limit_req zone=refused burst=100 nodelay; alias @FOLDER@/models/{page_file(status)};"


def page_file(status: int) -> str:
    """The name of the file with the answer for ``status``; no key of a model begins with an underscore."""
    return f"_refused-{status}.json"


def refusal_files() -> Dict[str, str]:
    """File name -> the answer, of each refusal that is a file."""
    return {page_file(status): answer(*refusal) + "\n" for status, refusal in REFUSALS.items() if status != 429}
