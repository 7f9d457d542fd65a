use std::collections::{BTreeMap, BTreeSet};

/// All methods that a route for `ANY` answers.
const METHODS: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

/// A route of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Logical id of the route in the template.
    pub id: String,
    /// As the template writes it and as the request event has it in `routeKey`: `POST /v1/events`, `ANY /v1/{proxy+}`, `$default`.
    pub key: String,
    /// The one method, or `None` for `ANY` and `$default`.
    pub method: Option<String>,
    /// Path pattern: `/v1/events`, `/v1/rules/{id}`, `/v1/{proxy+}`; empty for `$default`.
    pub pattern: String,
    /// Logical id of the function that answers.
    pub function: String,
    pub(crate) segments: Vec<Segment>,
}

/// The route that answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch<'a> {
    /// As the request event has it in `routeKey`.
    pub route_key: String,
    /// Logical id of the function.
    pub function: &'a str,
    /// Path variables, as they stand in the path (not decoded); a greedy one is named without its `+` and may hold `/`.
    pub path_parameters: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(String),
    Variable(String),
    Greedy(String),
    /// `$default`: whatever no other route takes.
    Everything,
}

impl Route {
    /// Reads a route key; the error says what is wrong with it.
    pub(crate) fn new(id: String, key: String, function: String) -> Result<Self, String> {
        if key == "$default" {
            let segments = vec![Segment::Everything];
            return Ok(Self { id, key, method: None, pattern: String::new(), function, segments });
        }
        let Some((method, pattern)) = key.split_once(' ') else {
            return Err(format!("`{key}` is not `METHOD /path`"));
        };
        let method = match method {
            "ANY" => None,
            method if METHODS.contains(&method) => Some(method.to_owned()),
            other => return Err(format!("`{other}` is no method; known are ANY, {}", METHODS.join(", "))),
        };
        let pattern = pattern.to_owned();
        let segments = read_pattern(&pattern)?;
        Ok(Self { id, key, method, pattern, function, segments })
    }

    fn takes(&self, method: &str) -> bool {
        self.method.as_deref().is_none_or(|own| own == method)
    }

    /// The path variables if the path fits.
    fn fit(&self, path: &str) -> Option<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        let mut rest = Some(path.strip_prefix('/')?);
        for segment in &self.segments {
            match segment {
                Segment::Everything => return Some(found),
                Segment::Greedy(name) => {
                    let rest = rest.filter(|rest| !rest.is_empty())?;
                    found.insert(name.clone(), rest.to_owned());
                    return Some(found);
                }
                Segment::Literal(_) | Segment::Variable(_) => {
                    let here = rest?;
                    let (part, after) = match here.split_once('/') {
                        Some((part, after)) => (part, Some(after)),
                        None => (here, None),
                    };
                    match segment {
                        Segment::Literal(text) if text != part => return None,
                        Segment::Variable(_) if part.is_empty() => return None,
                        Segment::Variable(name) => {
                            found.insert(name.clone(), part.to_owned());
                        }
                        _ => {}
                    }
                    rest = after;
                }
            }
        }
        rest.is_none().then_some(found)
    }

    /// Less comes first: a full match before a greedy one before `$default`; then literal before variable, segment by segment, a longer
    /// path before a shorter one; then the own method before `ANY`.
    ///
    /// Source: API Gateway Developer Guide, "Create routes for HTTP APIs", section on routing.
    fn rank(&self) -> (u8, Vec<u8>, bool) {
        let class = match self.segments.last() {
            Some(Segment::Everything) => 2,
            Some(Segment::Greedy(_)) => 1,
            _ => 0,
        };
        let kinds = self
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(_) => 0,
                Segment::Variable(_) => 1,
                Segment::Greedy(_) => 2,
                Segment::Everything => 3,
            })
            .collect();
        (class, kinds, self.method.is_none())
    }
}

/// The route that answers, with its path variables.
pub(crate) fn find<'a>(routes: &'a [Route], method: &str, path: &str) -> Option<RouteMatch<'a>> {
    routes
        .iter()
        .filter(|route| route.takes(method))
        .filter_map(|route| route.fit(path).map(|parameters| (route, parameters)))
        .min_by_key(|(route, _)| route.rank())
        .map(|(route, path_parameters)| RouteMatch {
            route_key: route.key.clone(),
            function: &route.function,
            path_parameters,
        })
}

/// The methods that some route answers at the path, sorted; empty if no route knows the path.
pub(crate) fn methods<'a>(routes: &'a [Route], path: &str) -> BTreeSet<&'a str> {
    let mut methods = BTreeSet::new();
    for route in routes.iter().filter(|route| route.fit(path).is_some()) {
        match &route.method {
            Some(method) => {
                methods.insert(method.as_str());
            }
            None => methods.extend(METHODS),
        }
    }
    methods
}

fn read_pattern(pattern: &str) -> Result<Vec<Segment>, String> {
    let Some(rest) = pattern.strip_prefix('/') else {
        return Err(format!("the path `{pattern}` does not begin with `/`"));
    };
    let mut segments = Vec::new();
    let mut names = BTreeSet::new();
    let parts: Vec<&str> = rest.split('/').collect();
    for (index, part) in parts.iter().enumerate() {
        let Some(inside) = part.strip_prefix('{') else {
            if part.contains(['{', '}']) {
                return Err(format!("`{part}` in `{pattern}` mixes text and a variable"));
            }
            segments.push(Segment::Literal((*part).to_owned()));
            continue;
        };
        let Some(inside) = inside.strip_suffix('}') else {
            return Err(format!("`{part}` in `{pattern}` does not end with `}}`"));
        };
        let (name, greedy) = match inside.strip_suffix('+') {
            Some(name) => (name, true),
            None => (inside, false),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            return Err(format!("`{part}` in `{pattern}` is no name of a variable"));
        }
        if !names.insert(name) {
            return Err(format!("the variable `{name}` stands twice in `{pattern}`"));
        }
        if greedy && index + 1 != parts.len() {
            return Err(format!("the greedy variable `{part}` is not at the end of `{pattern}`"));
        }
        segments.push(if greedy { Segment::Greedy(name.to_owned()) } else { Segment::Variable(name.to_owned()) });
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(keys: &[&str]) -> Vec<Route> {
        keys.iter().map(|key| Route::new(format!("R{key}"), (*key).to_owned(), format!("to {key}")).unwrap()).collect()
    }

    /// The key of the route that is found; the order in which routes stand must not matter.
    fn key(routes: &[Route], method: &str, path: &str) -> Option<String> {
        let found = find(routes, method, path).map(|found| found.route_key);
        let reversed: Vec<Route> = routes.iter().rev().cloned().collect();
        assert_eq!(find(&reversed, method, path).map(|found| found.route_key), found, "{method} {path}");
        found
    }

    #[test]
    fn the_priority_is_that_of_the_gateway() {
        // The example of the developer guide, with a method-bound twin for `ANY`.
        let all = routes(&[
            "$default",
            "ANY /{proxy+}",
            "GET /pets/{proxy+}",
            "GET /pets/dog/{id}",
            "GET /pets/dog/1",
            "ANY /pets/dog/1",
            "ANY /pets/cat/{id}",
        ]);
        assert_eq!(key(&all, "GET", "/pets/dog/1").as_deref(), Some("GET /pets/dog/1"));
        assert_eq!(key(&all, "PUT", "/pets/dog/1").as_deref(), Some("ANY /pets/dog/1"));
        assert_eq!(key(&all, "GET", "/pets/dog/2").as_deref(), Some("GET /pets/dog/{id}"));
        assert_eq!(key(&all, "GET", "/pets/cat/2").as_deref(), Some("ANY /pets/cat/{id}"));
        assert_eq!(key(&all, "GET", "/pets/bird/2/x").as_deref(), Some("GET /pets/{proxy+}"));
        assert_eq!(key(&all, "POST", "/test/5").as_deref(), Some("ANY /{proxy+}"));
        assert_eq!(key(&all, "GET", "/").as_deref(), Some("$default"));
    }

    #[test]
    fn another_method_falls_through_to_the_greedy_route() {
        let all = routes(&["POST /v1/events", "ANY /v1/{proxy+}"]);
        assert_eq!(key(&all, "POST", "/v1/events").as_deref(), Some("POST /v1/events"));
        assert_eq!(key(&all, "GET", "/v1/events").as_deref(), Some("ANY /v1/{proxy+}"));
    }

    #[test]
    fn a_path_that_is_fuller_wins_over_a_method_that_is_nearer() {
        let all = routes(&["POST /v1/{proxy+}", "ANY /v1/events"]);
        assert_eq!(key(&all, "POST", "/v1/events").as_deref(), Some("ANY /v1/events"));
        let all = routes(&["GET /v1/{proxy+}", "ANY /{area}/{name}"]);
        assert_eq!(key(&all, "GET", "/v1/x").as_deref(), Some("ANY /{area}/{name}"));
        let all = routes(&["GET /{proxy+}", "ANY /v1/{proxy+}"]);
        assert_eq!(key(&all, "GET", "/v1/x").as_deref(), Some("ANY /v1/{proxy+}"));
    }

    #[test]
    fn variables_are_handed_over_as_they_stand() {
        let all = routes(&["GET /v1/rules/{id}", "ANY /files/{proxy+}"]);
        let found = find(&all, "GET", "/v1/rules/a%20b").unwrap();
        assert_eq!(found.path_parameters, BTreeMap::from([("id".to_owned(), "a%20b".to_owned())]));
        assert_eq!(found.function, "to GET /v1/rules/{id}");
        let found = find(&all, "PUT", "/files/a/b/").unwrap();
        assert_eq!(found.path_parameters, BTreeMap::from([("proxy".to_owned(), "a/b/".to_owned())]));
    }

    #[test]
    fn variables_are_never_empty_and_paths_are_whole() {
        let all = routes(&["GET /v1/rules/{id}", "ANY /files/{proxy+}", "GET /health"]);
        for path in
            ["/v1/rules/", "/v1/rules", "/v1/rules/a/b", "/files/", "/files", "/health/", "/healthy", "health", ""]
        {
            assert_eq!(key(&all, "GET", path), None, "{path}");
        }
    }

    #[test]
    fn allowed_methods_tell_a_wrong_method_from_an_unknown_path() {
        let all = routes(&["POST /v1/events", "OPTIONS /v1/events", "ANY /v1/rules/{id}"]);
        assert_eq!(methods(&all, "/v1/events"), BTreeSet::from(["OPTIONS", "POST"]));
        assert_eq!(methods(&all, "/v1/rules/7").len(), METHODS.len());
        assert!(methods(&all, "/v2/events").is_empty());
        assert_eq!(key(&all, "GET", "/v1/events"), None);
    }

    #[test]
    fn a_route_key_that_the_gateway_would_not_take_is_refused() {
        for (bad, why) in [
            ("/v1/events", "is not `METHOD /path`"),
            ("FETCH /v1", "is no method"),
            ("GET v1", "does not begin with `/`"),
            ("GET /v1/{a+}/b", "not at the end"),
            ("GET /v1/{a}/{a}", "stands twice"),
            ("GET /v1/x{a}", "mixes"),
            ("GET /v1/{a", "does not end with"),
            ("GET /v1/{}", "is no name"),
            ("GET /v1/{+}", "is no name"),
        ] {
            let error = Route::new("R".into(), bad.into(), "F".into()).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
