//! JSON with line ends and indentation. Its texts, its numbers and the order of its keys stay as
//! they are, unlike those of a value that was parsed.

/// Most levels that are indented further. Deeper ones stay at the same column.
const DEPTH_MAX: usize = 24;

/// Indents valid JSON.
pub(super) fn pretty(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                text.push('"');
                copy_string(&mut letters, &mut text);
            }
            '{' | '[' => {
                text.push(letter);
                skip_blanks(&mut letters);
                let end = if letter == '{' { '}' } else { ']' };
                if letters.peek() == Some(&end) {
                    letters.next();
                    text.push(end);
                } else {
                    depth += 1;
                    line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(letter);
            }
            ',' => {
                text.push(',');
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            blank if blank.is_ascii_whitespace() => {}
            other => text.push(other),
        }
    }
    text
}

fn copy_string(letters: &mut impl Iterator<Item = char>, text: &mut String) {
    while let Some(letter) = letters.next() {
        text.push(letter);
        match letter {
            '"' => return,
            '\\' => text.extend(letters.next()),
            _ => {}
        }
    }
}

fn skip_blanks(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while letters.next_if(char::is_ascii_whitespace).is_some() {}
}

fn line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth.min(DEPTH_MAX)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_is_indented_and_keeps_its_texts_and_numbers() {
        let json = r#"{"b":1.0,"a":[ 1e2 , "x\"{,:" ],"e":{ },"f":[]}"#;
        let expected = "{\n  \"b\": 1.0,\n  \"a\": [\n    1e2,\n    \"x\\\"{,:\"\n  ],\n  \"e\": {},\n  \"f\": []\n}";
        assert_eq!(pretty(json), expected);
    }

    proptest! {
        #[test]
        fn the_value_is_the_same(text in ".{0,40}", number in any::<f64>(), flag in any::<bool>()) {
            let json = serde_json::json!({ "t": [text.clone(), { text: number }], "f": flag });
            let json = json.to_string();
            let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
            prop_assert_eq!(read(&pretty(&json)), read(&json));
        }
    }
}
