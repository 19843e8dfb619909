//! The description of a route for the OpenAPI document. Each route is declared with one, so no route
//! can lack it.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use axum::http::StatusCode;
use utoipa::ToSchema;
use utoipa::openapi::content::Content;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    Operation as PathOperation, OperationBuilder, Parameter as PathParameter, ParameterBuilder,
    ParameterIn,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{
    ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, Type,
};
use utoipa::openapi::{
    Components, Ref, RefOr, Required, Response, ResponseBuilder, Schema, SecurityRequirement,
};

use super::json::{JSON, PROBLEM_JSON, retries_later};
use super::route::{Route, Undescribed};
use crate::api::Problem;

/// Names of the security schemes in the document.
pub(super) const TOKEN: &str = "token";
pub(super) const SESSION: &str = "session";

/// The description of a route: its parameters, its request and its answers.
pub(super) struct Operation {
    id: &'static str,
    summary: &'static str,
    parameters: &'static [Parameter],
    /// Whether the parameter of the path is a number.
    has_number: bool,
    request: Option<Request>,
    answer: Answer,
    /// The type of the answer while the work goes on.
    accepted: Option<Shape>,
    /// A type that the text of the answer contains.
    mentioned: Option<Shape>,
    refusals: Vec<(StatusCode, &'static str)>,
}

struct Request {
    shape: Shape,
    required: Required,
}

/// A successful answer.
enum Answer {
    /// A value of one of these types.
    Json(Vec<Shape>),
    /// A JSON object of a type that is not in the document.
    Object,
    /// Text of this media type.
    Text(&'static str),
}

/// A JSON type of the document.
#[derive(Clone, Copy)]
struct Shape {
    name: fn() -> Cow<'static, str>,
    schema: fn() -> RefOr<Schema>,
    /// Adds the types that it refers to.
    add_inner: fn(&mut Vec<(String, RefOr<Schema>)>),
}

impl Shape {
    fn of<T: ToSchema>() -> Self {
        Self {
            name: T::name,
            schema: T::schema,
            add_inner: T::schemas,
        }
    }

    /// A reference to the type, which is added to the document.
    fn reference(self, components: &mut Components) -> RefOr<Schema> {
        let name = (self.name)().into_owned();
        let reference = Ref::from_schema_name(&name);
        let mut types = vec![(name, (self.schema)())];
        (self.add_inner)(&mut types);
        components.schemas.extend(types);
        reference.into()
    }
}

/// A parameter of the query, or a header.
pub(super) struct Parameter {
    place: Place,
    name: &'static str,
    about: &'static str,
    kind: Kind,
    is_repeated: bool,
}

#[derive(Clone, Copy)]
enum Place {
    Query,
    Header,
}

enum Kind {
    Text,
    OneOf(&'static [&'static str]),
    Number,
    Within(RangeInclusive<usize>),
    Flag,
}

impl Parameter {
    /// A text.
    pub(super) const fn text(name: &'static str, about: &'static str) -> Self {
        Self::new(name, about, Kind::Text)
    }

    /// A header.
    pub(super) const fn header(name: &'static str, about: &'static str) -> Self {
        let mut parameter = Self::new(name, about, Kind::Text);
        parameter.place = Place::Header;
        parameter
    }

    /// One of these texts.
    pub(super) const fn one_of(
        name: &'static str,
        about: &'static str,
        values: &'static [&'static str],
    ) -> Self {
        Self::new(name, about, Kind::OneOf(values))
    }

    /// A whole number.
    pub(super) const fn number(name: &'static str, about: &'static str) -> Self {
        Self::new(name, about, Kind::Number)
    }

    /// A whole number within these bounds.
    pub(super) const fn within(
        name: &'static str,
        about: &'static str,
        within: RangeInclusive<usize>,
    ) -> Self {
        Self::new(name, about, Kind::Within(within))
    }

    /// `true` or `false`.
    pub(super) const fn flag(name: &'static str, about: &'static str) -> Self {
        Self::new(name, about, Kind::Flag)
    }

    const fn new(name: &'static str, about: &'static str, kind: Kind) -> Self {
        Self {
            place: Place::Query,
            name,
            about,
            kind,
            is_repeated: false,
        }
    }

    /// The parameter may be given several times.
    pub(super) const fn repeated(mut self) -> Self {
        self.is_repeated = true;
        self
    }

    /// The name, if it is a parameter of the query.
    pub(super) fn query_name(&self) -> Option<&'static str> {
        matches!(self.place, Place::Query).then_some(self.name)
    }

    fn describe(&self) -> PathParameter {
        let one = match &self.kind {
            Kind::Text => ObjectBuilder::new().schema_type(Type::String),
            Kind::OneOf(values) => ObjectBuilder::new()
                .schema_type(Type::String)
                .enum_values(Some(values.iter().copied())),
            Kind::Number => number(),
            Kind::Within(within) => ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(*within.start()))
                .maximum(Some(*within.end())),
            Kind::Flag => ObjectBuilder::new().schema_type(Type::Boolean),
        };
        let schema = if self.is_repeated {
            Schema::from(ArrayBuilder::new().items(one))
        } else {
            Schema::from(one)
        };
        ParameterBuilder::new()
            .name(self.name)
            .parameter_in(match self.place {
                Place::Query => ParameterIn::Query,
                Place::Header => ParameterIn::Header,
            })
            .required(Required::False)
            .description(Some(self.about))
            .schema(Some(schema))
            .build()
    }
}

impl Undescribed {
    /// It answers with a `T`. `id` names it in programs, `summary` in one sentence.
    pub(super) fn json<T: ToSchema>(self, id: &'static str, summary: &'static str) -> Route {
        self.with(id, summary, Answer::Json(vec![Shape::of::<T>()]))
    }

    /// It answers with an object of a type that is described elsewhere.
    pub(super) fn object(self, id: &'static str, summary: &'static str) -> Route {
        self.with(id, summary, Answer::Object)
    }

    /// It answers with text of this media type.
    pub(super) fn text(
        self,
        id: &'static str,
        summary: &'static str,
        media_type: &'static str,
    ) -> Route {
        self.with(id, summary, Answer::Text(media_type))
    }

    fn with(self, id: &'static str, summary: &'static str, answer: Answer) -> Route {
        self.described(Operation {
            id,
            summary,
            parameters: &[],
            has_number: false,
            request: None,
            answer,
            accepted: None,
            mentioned: None,
            refusals: Vec::new(),
        })
    }
}

/// More of the description of a route of the API. A page has none.
impl Route {
    /// Or it answers with a `T`.
    pub(super) fn or<T: ToSchema>(self) -> Self {
        self.describe(|operation| {
            if let Answer::Json(shapes) = &mut operation.answer {
                shapes.push(Shape::of::<T>());
            }
        })
    }

    /// Or it answers with a `T` and the status 202: the work goes on in the background.
    pub(super) fn accepts<T: ToSchema>(self) -> Self {
        self.describe(|operation| operation.accepted = Some(Shape::of::<T>()))
    }

    /// A `T` stands in the answer, as text.
    pub(super) fn mentions<T: ToSchema>(self) -> Self {
        self.describe(|operation| operation.mentioned = Some(Shape::of::<T>()))
    }

    /// It takes these parameters.
    pub(super) fn parameters(self, parameters: &'static [Parameter]) -> Self {
        self.describe(|operation| operation.parameters = parameters)
    }

    /// The parameter of its path is a number.
    pub(super) fn by_number(self) -> Self {
        self.describe(|operation| operation.has_number = true)
    }

    /// It takes a `T` as its body.
    pub(super) fn takes<T: ToSchema>(self) -> Self {
        self.with_request::<T>(Required::True)
    }

    /// It takes a `T` as its body, or no body.
    pub(super) fn may_take<T: ToSchema>(self) -> Self {
        self.with_request::<T>(Required::False)
    }

    fn with_request<T: ToSchema>(self, required: Required) -> Self {
        let shape = Shape::of::<T>();
        self.describe(|operation| operation.request = Some(Request { shape, required }))
    }

    /// It may be refused with this status, for this reason. The statuses that every route has need
    /// no mention.
    pub(super) fn refuses(self, status: StatusCode, reason: &'static str) -> Self {
        self.describe(|operation| operation.refusals.push((status, reason)))
    }
}

impl Operation {
    /// Its parameters in the query and in headers.
    pub(super) fn all_parameters(&self) -> &'static [Parameter] {
        self.parameters
    }

    /// The entry of `route` in the document. Adds the types that it names to `components`.
    pub(super) fn describe(&self, route: &Route, components: &mut Components) -> PathOperation {
        let mut builder = OperationBuilder::new()
            .operation_id(Some(self.id))
            .summary(Some(self.summary));
        for name in names_in(route.path()) {
            builder = builder.parameter(self.in_path(name));
        }
        for parameter in self.parameters {
            builder = builder.parameter(parameter.describe());
        }
        if let Some(Request { shape, required }) = &self.request {
            let content = Content::new(Some(shape.reference(components)));
            let request = RequestBodyBuilder::new()
                .content(JSON, content)
                .required(Some(required.clone()))
                .build();
            builder = builder.request_body(Some(request));
        }
        builder = builder.response("200", self.success(components));
        if let Some(shape) = self.accepted {
            let content = Content::new(Some(shape.reference(components)));
            let accepted = ResponseBuilder::new()
                .description("accepted: the gateways carry it on in the background")
                .content(JSON, content);
            builder = builder.response("202", accepted.build());
        }
        if let Some(shape) = self.mentioned {
            shape.reference(components);
        }
        for (status, reason) in self.all_refusals(route) {
            builder = builder.response(status.as_str(), refusal(route, status, reason));
        }
        if !route.is_open() {
            // Without `admin_token` in the configuration none is needed.
            let optional = SecurityRequirement::default();
            let by = |scheme| SecurityRequirement::new(scheme, [""; 0]);
            builder = builder.securities(Some([by(TOKEN), by(SESSION), optional]));
        }
        builder.build()
    }

    fn in_path(&self, name: &str) -> PathParameter {
        let schema = if self.has_number {
            number()
        } else {
            ObjectBuilder::new().schema_type(Type::String)
        };
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(schema))
            .build()
    }

    fn success(&self, components: &mut Components) -> Response {
        let (media_type, schema) = match &self.answer {
            Answer::Json(shapes) => {
                let mut all = shapes.iter().map(|shape| shape.reference(components));
                let first = all.next().expect("an operation has an answer");
                let rest: Vec<_> = all.collect();
                let schema = if rest.is_empty() {
                    first
                } else {
                    let one_of = OneOfBuilder::new().item(first);
                    let one_of = rest.into_iter().fold(one_of, OneOfBuilder::item);
                    Schema::from(one_of).into()
                };
                (JSON, schema)
            }
            Answer::Object => {
                let object = ObjectBuilder::new().schema_type(Type::Object);
                (JSON, Schema::from(object).into())
            }
            Answer::Text(media_type) => {
                let text = ObjectBuilder::new().schema_type(Type::String);
                (*media_type, Schema::from(text).into())
            }
        };
        ResponseBuilder::new()
            .description("success")
            .content(media_type, Content::new(Some::<RefOr<Schema>>(schema)))
            .build()
    }

    /// The statuses of every route, and its own.
    fn all_refusals(&self, route: &Route) -> Vec<(StatusCode, &'static str)> {
        let mut all = vec![
            (
                StatusCode::BAD_REQUEST,
                "a parameter or the body is invalid",
            ),
            (
                StatusCode::REQUEST_TIMEOUT,
                "the body did not arrive in time",
            ),
            (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests of this class, no answer in time, or the store is unavailable, busy or full",
            ),
        ];
        if !route.is_open() {
            all.extend([
                (StatusCode::UNAUTHORIZED, "no token, or a wrong one"),
                (
                    StatusCode::FORBIDDEN,
                    "from a web page, by a host name, or with a token that may not do this",
                ),
                (
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many wrong tokens wait for their answer",
                ),
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the store cannot be used",
                ),
            ]);
        }
        if self.request.is_some() {
            all.push((
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "`content-type` is not JSON",
            ));
        }
        all.extend(&self.refusals);
        all.sort_by_key(|(status, _)| *status);
        all
    }
}

/// The answer of a refusal. A health check has a line of text for it.
fn refusal(route: &Route, status: StatusCode, reason: &str) -> Response {
    let mut builder = ResponseBuilder::new().description(reason);
    if retries_later(status) {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer);
        let header = HeaderBuilder::new()
            .schema(Some(seconds))
            .description(Some("seconds until the next try"))
            .build();
        builder = builder.header("retry-after", header);
    }
    let problem = Ref::from_schema_name(Problem::name());
    builder = builder.content(PROBLEM_JSON, Content::new(Some(problem)));
    if route.is_open() {
        let text = ObjectBuilder::new().schema_type(Type::String);
        builder = builder.content(TEXT, Content::new(Some(Schema::from(text))));
    }
    builder.build()
}

/// The media type of a health check.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// The type of a cursor or an id that is a number.
fn number() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
}

/// The names of the parameters in a path.
fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('{')
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('}')?.0))
}

/// Adds the types that every route needs.
pub(super) fn add_common(components: &mut Components) {
    Shape::of::<Problem>().reference(components);
}
