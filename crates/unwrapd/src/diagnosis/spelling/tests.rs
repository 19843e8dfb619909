use super::*;

/// A value with everything in which the spellings differ.
const EVENT: &str =
    r#"{"type":"a/<b>","id":"é\ud83d\ude00\u0001\"","data":{"n":1,"list":[],"o":{}}}"#;

fn written(name: &str) -> String {
    let spelling = SPELLINGS.iter().find(|spelling| spelling.name == name);
    let json = Json::read(EVENT.as_bytes()).unwrap();
    String::from_utf8(spelling.unwrap().write(&json)).unwrap()
}

/// `tests/it/serialisers.rs` compares those of Python and Node with the programs themselves.
#[test]
fn each_spelling_is_that_of_its_language() {
    for (name, expected) in [
        (
            "JSON.stringify(event)",
            r#"{"type":"a/<b>","id":"é😀\u0001\"","data":{"n":1,"list":[],"o":{}}}"#,
        ),
        (
            "json_encode($event)",
            r#"{"type":"a\/<b>","id":"\u00e9\ud83d\ude00\u0001\"","data":{"n":1,"list":[],"o":{}}}"#,
        ),
        (
            "json.Marshal(event) of Go",
            r#"{"type":"a/\u003cb\u003e","id":"é😀\u0001\"","data":{"n":1,"list":[],"o":{}}}"#,
        ),
        (
            "JsonSerializer.Serialize(event) of .NET",
            r#"{"type":"a/\u003Cb\u003E","id":"\u00E9\uD83D\uDE00\u0001\u0022","data":{"n":1,"list":[],"o":{}}}"#,
        ),
        (
            "a `jsonb` column of PostgreSQL",
            r#"{"id": "é😀\u0001\"", "data": {"n": 1, "o": {}, "list": []}, "type": "a/<b>"}"#,
        ),
        (
            "json.dumps(event, sort_keys=True)",
            r#"{"data": {"list": [], "n": 1, "o": {}}, "id": "\u00e9\ud83d\ude00\u0001\"", "type": "a/<b>"}"#,
        ),
        (
            "jq .",
            "{\n  \"type\": \"a/<b>\",\n  \"id\": \"é😀\\u0001\\\"\",\n  \"data\": {\n    \"n\": 1,\n    \"list\": [],\n    \"o\": {}\n  }\n}\n",
        ),
    ] {
        assert_eq!(written(name), expected, "{name}");
    }
}

#[test]
fn names_are_unique_and_each_spelling_is_recognised_or_that_of_an_earlier_one() {
    let json = Json::read(EVENT.as_bytes()).unwrap();
    for (place, spelling) in SPELLINGS.iter().enumerate() {
        let text = spelling.write(&json);
        let named = name_of(&text, &json, false).unwrap();
        let first = SPELLINGS.iter().position(|other| other.name == named);
        assert!(first.unwrap() <= place, "{}", spelling.name);
        // Reading and writing again changes nothing.
        let again = Json::read(&text).unwrap();
        assert_eq!(spelling.write(&again), text, "{}", spelling.name);
    }
    let read = Json::read(b"{ \"a\":1}").unwrap();
    assert_eq!(name_of(b"{ \"a\":1}", &read, false), None);
    let sorted = br#"{"a":1,"b":2}"#;
    let read = Json::read(sorted).unwrap();
    let named = name_of(sorted, &read, true);
    assert!(named.unwrap().contains("sort_keys=True"), "{named:?}");
}

#[test]
fn the_parts_that_differ_are_named() {
    let told = |one: &str, other: &str| {
        let read = |text: &'static str| Json::read(text.as_bytes()).unwrap();
        let (one, other): (&'static str, &'static str) =
            (one.to_owned().leak(), other.to_owned().leak());
        differences(
            (one.as_bytes(), &read(one)),
            (other.as_bytes(), &read(other)),
        )
    };
    assert_eq!(told(r#"{"a":1,"b":2}"#, r#"{"a": 1, "b": 2}"#), ["spacing"]);
    assert_eq!(told(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#), ["key order"]);
    assert_eq!(told(r#"{"a":"/"}"#, r#"{"a":"\/"}"#), ["escapes"]);
    assert_eq!(told(r#"{"a":1}"#, "{\"a\":1}\n"), ["spacing"]);
}
