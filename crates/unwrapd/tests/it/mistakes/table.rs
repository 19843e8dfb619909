//! The table of mistakes. In each file, `#!` at the end of a line marks a mistake that the gateway
//! reports for that line, with a part of its text. The gateway reports no others. It reads the
//! files without these marks; a file without an endpoint gets one at its end.

pub(super) const CASES: &[&str] = &[
    // Mistakes of every table and kind, in one run.
    r#"
[server]
lisen = "127.0.0.1:0" #! did you mean `listen`?
admin = "localhost" #! an IP address and a port
drain_seconds = "many" #! this must be a whole number
connections_max = 1 #! `connections_max` must be 8 to 16384
[store]
url = "mysql://x" #! sqlite:
dedupe_days = 1 #! `dedupe_days` must be 3 to 365
[[endpoint]]
name = "One" #! lower-case letters
secrets = [{ env = "NO_SUCH_1" }, "whsec_hunter2", { env = "NO_SUCH_2" }] #! NO_SUCH_1 is not set #! secrets must not be written #! NO_SUCH_2 is not set
requests_max = 0 #! `requests_max` must be 1 to 16384
[[endpoint]] #! the key `name` is missing here #! the key `secrets` is missing here
requests_max = 1
[[destination]]
name = "app"
url = "ftp://x" #! http://
secret = { env = "NO_SUCH_3" } #! NO_SUCH_3 is not set
events = ["resp*", "response.*", "a b"] #! an event pattern is #! an event pattern is
concurrency = 0 #! `concurrency` must be 1 to 1024
rate = -1 #! this number is negative, or too large
[[destination]]
name = "app" #! the name `app` is already used
command = [] #! a program and its arguments
allow_private = true #! `allow_private` is only for a `url`
[[destination]]
name = 5 #! a text in quotation marks
jsonl = "" #! the path of a file, or "-" for stdout
timeout_seconds = 0 #! `timeout_seconds` must be 1 to 600
retry_first_seconds = 0 #! `retry_first_seconds` must be 1 to 86400
[surplus] #! there is no key `surplus` here
"#,
    // Both keys of a certificate, and only what is wrong with them.
    r#"
[server.tls] #! the key `certificate` is missing here #! the key `key` is missing here
[server.admin_tls]
certificate = 5 #! a text in quotation marks
key = "/no/such/key"
"#,
    r#"
[server.tls]
certificate = "/no/such/chain" #! /no/such/chain
key = "/no/such/key" #! /no/such/key
"#,
    // Traces: nothing of a URL or a header is repeated.
    r"
[traces] #! the key `url` is missing here
sample = 1.5 #! `sample` must be 0 to 1
",
    r#"
[traces]
url = "http://hunter2@collector:4318" #! must not have a user
[traces.headers]
Host = { env = "OPENAI_WEBHOOK_SECRET" } #! the gateway sets this header itself
"a hunter2" = { env = "OPENAI_WEBHOOK_SECRET" } #! not the name of a header
authorization = { env = "NO_SUCH_4" } #! NO_SUCH_4 is not set
Authorization = "hunter2" #! secrets must not be written
"#,
    // Text that is no TOML.
    r#"{"server": 1} #! this cannot be read as TOML: "#,
    r#"
a = """hunter2 #! above all tables
[[endpoint]]
#! this cannot be read as TOML: "#,
    "a = 1.2.hunter2 #! this cannot be read as TOML: ",
    "a = 'hunter2 #! this cannot be read as TOML: ",
    // It hides no other mistake, and what stands in its line is not missing.
    r#"
[server]
listen = 127.0.0.1:8080 #! this cannot be read as TOML
drain_seconds = 1000 #! `drain_seconds` must be 0 to 300
[store]
dedupe_days = 1 #! `dedupe_days` must be 3 to 365
dedupe_days = 2 #! this cannot be read as TOML
[[endpoint]]
name = production #! this cannot be read as TOML
secrets = [{ env = "NO_SUCH" }] #! NO_SUCH is not set
[[destination]]
name = "app"
url = "http://app:0/" #! the port must be 1 to 65535
secret = { env = "APP_WEBHOOK_SECRET" }
rate #! this cannot be read as TOML
"#,
    // A text that ends early is told once, and nothing in it is missing.
    r#"
[server]
listen = """127.0.0.1:0
[[endpoint]]
name = "a"
#! this cannot be read as TOML"#,
    r#"
server = { listen = "127.0.0.1:0"
[[endpoint]] #! this cannot be read as TOML
name = "a"
secrets = [{ env = "OPENAI_WEBHOOK_SECRET" }]
"#,
    r#"
[[endpoint]]
name = "a"
secrets = [{ env = "OPENAI_WEBHOOK_SECRET" }
[[destination]] #! this cannot be read as TOML
name = "b"
jsonl = "-"
rate = 0
"#,
    r#"
[[endpoint]]
name = "a"
secrets = [{ env = "OPENAI_WEBHOOK_SECRET" ] #! this cannot be read as TOML
[[destination]]
name = "b"
jsonl = "-"
rate = 0
"#,
    r#"
[server]
listen = "127.0.0.1:0 #! this cannot be read as TOML
[[endpoint]]
name = "a"
secrets = [{ env = "OPENAI_WEBHOOK_SECRET" }]
"#,
    r#"
[[endpoint]]
name = "a"
secrets = [{ env = "OPENAI_WEBHOOK_SECRET" } #! this cannot be read as TOML
"#,
    r#"
[[endpoint] #! this cannot be read as TOML
name = "a"
secrets = [{ env = "OPENAI_WEBHOOK_SECRET" }]
"#,
    r#"
[server #! this cannot be read as TOML
listen = "127.0.0.1:0"
[[endpoint]]
name = "a"
secrets = [{ env = "OPENAI_WEBHOOK_SECRET" }]
"#,
    r#"
[server]
listen = #! this cannot be read as TOML
[[endpoint]]
name = "a"
secrets = [{ env = "OPENAI_WEBHOOK_SECRET" }]
"#,
    // A key outside of all tables.
    r#"listen = "127.0.0.1:0" #! above all tables"#,
    // Two ports at one address.
    r#"
[server]
listen = "127.0.0.1:8080"
admin = "127.0.0.1:8080" #! name the same port
"#,
    r#"
[server]
listen = "0.0.0.0:8080"
admin = "127.0.0.1:8080" #! name the same port
"#,
    r#"
[server]
listen = "[::1]:8080"
admin = "[::]:8080" #! name the same port
admin_token = { env = "APP_WEBHOOK_SECRET" }
"#,
    // A token for reading beside none, beside the same, and a restriction of none.
    r#"
[server]
admin_read_token = { env = "APP_WEBHOOK_SECRET" } #! add `admin_token = { env = "UNWRAPD_ADMIN_TOKEN" }`
"#,
    r#"
[server]
admin_token = { env = "APP_WEBHOOK_SECRET" }
admin_read_token = { env = "APP_WEBHOOK_SECRET" } #! `admin_token` is the same secret
admin_read_payloads = false
"#,
    r#"
[server]
admin_token = { env = "APP_WEBHOOK_SECRET" }
admin_read_payloads = false #! there is no token for reading
"#,
    r#"
[server]
admin_token = { env = "NO_SUCH" } #! NO_SUCH is not set
admin_read_token = 5 #! `{ env = "NAME" }` or `{ file = "PATH" }`
admin_read_payloads = false
"#,
    r#"
[server]
admin_read_token = { env = "NO_SUCH" } #! NO_SUCH is not set #! add `admin_token
admin_read_payloads = "no" #! true or false
"#,
    // Base paths that no proxy sends, and one that the port has already.
    r#"
[server]
admin_base_path = "unwrapd" #! this must be a path such as "/unwrapd"
"#,
    r#"
[server]
admin_base_path = "/unwrapd/" #! this must be a path such as "/unwrapd"
"#,
    r#"
[server]
admin_base_path = "/a/../b" #! this must be a path such as "/unwrapd"
"#,
    r#"
[server]
admin_base_path = "/api" #! a path of the admin port begins like this
"#,
    // URLs of the admin port that are no address of its first page.
    r#"
[server]
admin_url = "ops.example" #! this must be a URL
"#,
    r#"
[server]
admin_url = "https://user:hidden@ops.example" #! must not have a user or a password
"#,
    r#"
[server]
admin_url = "https://ops.example/?a=b" #! the URL has a query
"#,
    r#"
[server]
admin_url = "https://ops.example/unwrapd" #! write the same path as `admin_base_path`
"#,
    r#"
[server]
admin_base_path = "/unwrapd"
admin_url = "https://ops.example/other" #! write the same path as `admin_base_path`
"#,
    r#"
[server]
admin_base_path = "unwrapd" #! this must be a path such as "/unwrapd"
admin_url = "https://ops.example/unwrapd"
"#,
    // Names that would be another path.
    r#"
[[endpoint]]
name = ".." #! a name is 1 to 64 lower-case letters
secrets = [{ env = "OPENAI_WEBHOOK_SECRET" }]
[[destination]]
name = "." #! a name is 1 to 64 lower-case letters
jsonl = "-"
"#,
    // The endpoint of the gateway's own events.
    r#"
[[endpoint]]
name = "unwrapd" #! the name `unwrapd` belongs to the gateway's own events
secrets = [{ env = "OPENAI_WEBHOOK_SECRET" }]
"#,
    // A missing file of a secret, with the way to make it.
    r#"
[[endpoint]]
name = "a"
secrets = [{ file = "no-such" }] #! no-such cannot be read: there is no such file: put the secret into it; for a destination or `admin_token`, `(umask 077; unwrapd secret > FILE)` makes one
"#,
    // A value that cannot be read is not missing too.
    r#"
[server]
admin = "0.0.0.0:1"
admin_token = 5 #! `{ env = "NAME" }` or `{ file = "PATH" }`
[[endpoint]]
name = "a"
secrets = [5] #! `{ env = "NAME" }` or `{ file = "PATH" }`
[[destination]]
name = "app"
url = 5 #! a text in quotation marks
secret = { env = 5 } #! a text in quotation marks
[[destination]]
name = "other"
url = "http://127.0.0.1:1"
secrets = [true] #! `{ env = "NAME" }` or `{ file = "PATH" }`
events = [1] #! a text in quotation marks
"#,
    // A key that is missing in a table hides no other mistake.
    r#"
[server]
listen = "x" #! an IP address and a port
drain_seconds = 1000 #! `drain_seconds` must be 0 to 300
[server.tls] #! the key `key` is missing here
certificate = "no.pem"
[[endpoint]]
name = "a"
secrets = [{ env = "OPENAI_WEBHOOK_SECRET", file = "x" }, { }] #! `{ env = "NAME" }` or `{ file = "PATH" }` #! `{ env = "NAME" }` or `{ file = "PATH" }`
"#,
    // Tables in the wrong brackets. `[endpoint]` is an endpoint all the same, so none is missing.
    r#"
[endpoint] #! write [[endpoint]]
name = "a"
[[server]] #! write [server]
listen = "x"
"#,
    // Paths that a shell would change.
    r#"
[store]
url = "sqlite:${DATA}/u.db" #! variables are not replaced
[[endpoint]]
name = "a"
secrets = [{ file = "~/secret" }] #! `~` is not replaced
[[destination]]
name = "l"
jsonl = "$(pwd)/x" #! variables are not replaced
"#,
    // The keys of one kind of destination at another, and two kinds in one.
    r#"
[[destination]]
name = "lines"
jsonl = "-"
ca = "ca.pem" #! `ca` is only for a `url`; the gateway writes lines, and sends no request
secret = { env = "APP_WEBHOOK_SECRET" } #! `secret` is only for a `url`
[[destination]]
name = "both"
command = ["notify"]
url = "http://127.0.0.1:1" #! a destination is one of `url`, `command` and `jsonl`
[[destination]]
name = "none" #! a destination needs one of `url = "https://…"`, `command = ["program", "argument", …]` and `jsonl = "path"`
"#,
];
