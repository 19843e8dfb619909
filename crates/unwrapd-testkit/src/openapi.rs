//! Compares answers of the admin port with its OpenAPI document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};
use unwrapd::admin::openapi_json;

/// The answers that the document describes.
pub struct Described {
    document: Value,
    schemas: Schemas,
    /// The schema of each answer: by path, method, status and media type.
    answers: BTreeMap<Answer, SchemaIndex>,
}

type Answer = (String, String, String, String);

/// The document of this build.
pub fn described() -> &'static Described {
    static DESCRIBED: OnceLock<Described> = OnceLock::new();
    DESCRIBED.get_or_init(|| Described::new(serde_json::from_str(&openapi_json()).unwrap()))
}

impl Described {
    fn new(document: Value) -> Self {
        let components = closed(&document["components"]);
        let mut compiler = Compiler::new();
        let mut schemas = Schemas::new();
        let mut answers = BTreeMap::new();
        for (path, item) in object(&document["paths"]) {
            for (method, operation) in object(item) {
                for (status, response) in object(&operation["responses"]) {
                    for (media_type, content) in object(&response["content"]) {
                        let schema = json!({
                            "$schema": "https://json-schema.org/draft/2020-12/schema",
                            "components": components,
                            "allOf": [content["schema"]],
                        });
                        let url = format!("http://document/{}", answers.len());
                        compiler.add_resource(&url, schema).unwrap();
                        let index = compiler.compile(&url, &mut schemas).unwrap();
                        let answer = [path, method, status, media_type].map(Clone::clone);
                        let [path, method, status, media_type] = answer;
                        answers.insert((path, method, status, media_type), index);
                    }
                }
            }
        }
        Self {
            document,
            schemas,
            answers,
        }
    }

    /// The document.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Panics unless the document describes this answer to a request for `path`. `body` has all of
    /// it. Returns the path and the method in the document; `None`: the port has no such path, and
    /// the answer is a problem that says so.
    pub fn check(
        &self,
        method: &str,
        path: &str,
        status: u16,
        media_type: &str,
        body: &[u8],
    ) -> Option<(String, String)> {
        let case = || {
            let body = String::from_utf8_lossy(body);
            format!("{method} {path}: {status} {media_type} {body}")
        };
        let method = method.to_lowercase();
        let path = path.split('?').next().unwrap();
        let Some(template) = self.template(path, &method) else {
            assert!([404, 405].contains(&status), "no such route: {}", case());
            return None;
        };
        let answer = (
            template.to_owned(),
            method.clone(),
            status.to_string(),
            media_type.to_owned(),
        );
        let schema = self.answers.get(&answer);
        let schema = schema.unwrap_or_else(|| panic!("not in the document: {}", case()));
        let value = if media_type.ends_with("json") {
            serde_json::from_slice(body).unwrap()
        } else {
            Value::String(String::from_utf8(body.to_vec()).unwrap())
        };
        if let Err(error) = self.schemas.validate(&value, *schema) {
            panic!("{}\n{error:#}", case());
        }
        Some((template.to_owned(), method))
    }

    /// Panics unless this is a value of a type of the document.
    pub fn check_type(&self, name: &str, value: &Value) {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "components": closed(&self.document["components"]),
            "allOf": [{ "$ref": format!("#/components/schemas/{name}") }],
        });
        let mut compiler = Compiler::new();
        let mut schemas = Schemas::new();
        compiler.add_resource("http://type", schema).unwrap();
        let index = compiler.compile("http://type", &mut schemas).unwrap();
        if let Err(error) = schemas.validate(value, index) {
            panic!("{value}\n{error:#}");
        }
    }

    /// The path of the document that a path is one of, if it has the method.
    fn template(&self, path: &str, method: &str) -> Option<&str> {
        let parts: Vec<&str> = path.split('/').collect();
        let matches = |template: &str| {
            let mut templates = template.split('/');
            let mut parts = parts.iter();
            templates.clone().count() == parts.len()
                && templates.all(|template| {
                    let part = parts.next().unwrap();
                    template.starts_with('{') || template == *part
                })
        };
        let mut items = object(&self.document["paths"]);
        let (template, _) =
            items.find(|(template, item)| matches(template) && item.get(method).is_some())?;
        Some(template)
    }
}

/// The types of the document, without fields that they do not name. A reader ignores such fields; a
/// test must not, or the document could lack one.
fn closed(components: &Value) -> Value {
    let mut parts = BTreeSet::new();
    find_parts(components, &mut parts);
    let mut components = components.clone();
    let schemas = components["schemas"].as_object_mut().unwrap();
    for (name, schema) in schemas {
        if !parts.contains(name) {
            close(schema);
        }
    }
    components
}

/// The types that are parts of others, which add fields.
fn find_parts(value: &Value, parts: &mut BTreeSet<String>) {
    if let Some(all_of) = value.get("allOf").and_then(Value::as_array) {
        for part in all_of {
            if let Some(reference) = part["$ref"].as_str() {
                parts.insert(reference.rsplit('/').next().unwrap().to_owned());
            }
        }
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|value| find_parts(value, parts)),
        Value::Array(values) => values.iter().for_each(|value| find_parts(value, parts)),
        _ => {}
    }
}

fn close(schema: &mut Value) {
    let is_object = schema.get("properties").is_some() || schema.get("allOf").is_some();
    if let (true, Some(fields)) = (is_object, schema.as_object_mut()) {
        fields.insert("unevaluatedProperties".into(), false.into());
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}
