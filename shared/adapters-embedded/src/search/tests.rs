use super::*;
use serde_json::json;

struct Engine {
    search: EmbeddedSearch,
    dir: tempfile::TempDir,
}

fn document(index: &str, id: &str, source: Value) -> Document {
    Document { index: index.to_owned(), id: id.to_owned(), source: source.to_string() }
}

fn config() -> EmbeddedSearchConfig {
    EmbeddedSearchConfig { writer_memory_bytes: 15_000_000, ..EmbeddedSearchConfig::default() }
}

fn access_template() -> IndexTemplate {
    IndexTemplate {
        name: "access".to_owned(),
        pattern: "s-access-*".to_owned(),
        mappings: json!({"properties": {
            "type": {"type": "keyword"}, "time": {"type": "date"}, "status": {"type": "long"}, "price": {"type": "double"},
            "ok": {"type": "boolean"}, "ip": {"type": "ip"},
            "title": {"type": "text", "fields": {"keyword": {"type": "keyword"}, "bigram": {"type": "text"}}},
            "data": {"properties": {"url": {"type": "keyword"}, "note": {"type": "text"}}},
            "extra": {"type": "flat_object"},
        }}),
    }
}

impl Engine {
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { search: EmbeddedSearch::open(dir.path(), config()).unwrap(), dir }
    }

    /// Five documents of two months, and one of another kind without a template.
    async fn filled() -> Self {
        let engine = Self::empty();
        engine.search.define(vec![access_template()]).await.unwrap();
        let one = |id: &str, time: &str, status: i64, price: f64, ok: bool, url: &str, title: &str| {
            let index = format!("s-access-{}", time[..7].replace('-', "."));
            let source = json!({
                "type": "http.access", "time": time, "status": status, "price": price, "ok": ok, "title": title,
                "data": {"url": url}, "extra": {"k": {"a": format!("v{id}")}}, "ip": "10.0.0.7",
            });
            document(&index, id, source)
        };
        engine
            .add(vec![
                one("a", "2026-10-30T10:00:00Z", 200, 1.5, true, "/cart", "삼성전자 급등"),
                one("b", "2026-10-30T11:30:00.250Z", 404, 2.5, false, "/cart/1", "Quick brown Fox"),
                one("c", "2026-11-01T00:00:00Z", 404, 3.0, true, "/admin", "quick dog"),
            ])
            .await;
        engine
            .add(vec![
                one("d", "2026-11-02T12:00:00Z", 500, -4.0, true, "/", "LG전자 하락"),
                one("e", "2026-11-02T13:00:00Z", 200, 100.0, false, "/cart", "the brown quick"),
                document("other-1", "f", json!({"user": {"name": "kim"}, "n": 7, "tags": ["x", "y"], "flag": true})),
            ])
            .await;
        engine
    }

    async fn add(&self, documents: Vec<Document>) {
        for outcome in self.search.create(documents).await.unwrap() {
            assert!(matches!(outcome, DocumentOutcome::Created), "{outcome:?}");
        }
    }

    async fn ask(&self, pattern: &str, body: Value) -> Value {
        self.search.search(pattern, &body).await.unwrap()
    }

    /// Ids of the hits of a query, by id.
    async fn ids(&self, query: Value) -> String {
        let answer = self.ask("*", json!({"query": query, "sort": ["_id"]})).await;
        let hits = answer["hits"]["hits"].as_array().unwrap();
        assert_eq!(answer["hits"]["total"]["value"], hits.len());
        hits.iter().map(|hit| hit["_id"].as_str().unwrap()).collect()
    }

    async fn aggs(&self, aggs: Value) -> Value {
        self.ask("s-access-*", json!({"size": 0, "aggs": aggs})).await["aggregations"].clone()
    }

    async fn fault(&self, body: Value) -> String {
        let error = self.search.search("*", &body).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        error.detail
    }

    fn reopened(self) -> Self {
        let Self { search, dir } = self;
        drop(search);
        Self { search: EmbeddedSearch::open(dir.path(), config()).unwrap(), dir }
    }
}

fn outcomes(outcomes: &[DocumentOutcome]) -> String {
    outcomes
        .iter()
        .map(|outcome| match outcome {
            DocumentOutcome::Created => 'C',
            DocumentOutcome::Exists => 'E',
            DocumentOutcome::Rejected(_) => 'R',
            DocumentOutcome::Failed(_) => 'F',
        })
        .collect()
}

#[tokio::test]
async fn it_keeps_the_contract_of_its_port() {
    let engine = Engine::empty();
    sluice_testkit::contract::search::all(&engine.search).await;
}

#[tokio::test]
async fn a_document_is_created_once() {
    let engine = Engine::empty();
    let doc = |id: &str| document("i", id, json!({"a": 1}));
    let first = engine.search.create(vec![doc("1"), doc("2"), doc("1")]).await.unwrap();
    assert_eq!(outcomes(&first), "CCE");
    let second = engine.search.create(vec![doc("2"), doc("3"), document("j", "1", json!({}))]).await.unwrap();
    assert_eq!(outcomes(&second), "ECC", "the same id in another index is another document");
    let engine = engine.reopened();
    let third = engine.search.create(vec![doc("1"), doc("2"), doc("3"), doc("4")]).await.unwrap();
    assert_eq!(outcomes(&third), "EEEC");
    assert_eq!(engine.ask("*", json!({"size": 0})).await["hits"]["total"]["value"], 5);
}

#[tokio::test]
async fn a_bad_document_does_not_harm_its_neighbours() {
    let engine = Engine::empty();
    engine.search.define(vec![access_template()]).await.unwrap();
    let index = "s-access-2026.11";
    let documents = vec![
        document(index, "1", json!({"status": 200})),
        document(index, "2", json!({"status": "many"})),
        Document { index: index.to_owned(), id: "3".to_owned(), source: "{".to_owned() },
        document(index, "", json!({})),
        document(index, "5", json!({"status": 201})),
    ];
    let found = engine.search.create(documents).await.unwrap();
    assert_eq!(outcomes(&found), "CRRRC");
    assert!(
        matches!(&found[1], DocumentOutcome::Rejected(why) if why == "failed to parse field `status`: it is not a number")
    );
    assert_eq!(engine.ids(json!({"match_all": {}})).await, "15");
}

#[tokio::test]
async fn concurrent_calls_agree_on_who_created_a_document() {
    let engine = Engine::empty();
    let mut calls = Vec::new();
    for _ in 0..8 {
        let search = engine.search.clone();
        calls.push(tokio::spawn(async move {
            let documents = (0..200).map(|n| document("i", &n.to_string(), json!({"n": n}))).collect();
            outcomes(&search.create(documents).await.unwrap())
        }));
    }
    let mut created = 0;
    for call in calls {
        created += call.await.unwrap().matches('C').count();
    }
    assert_eq!(created, 200);
    assert_eq!(engine.ask("i", json!({"size": 0})).await["hits"]["total"]["value"], 200);
}

#[tokio::test]
async fn queries_find_what_they_should() {
    let engine = Engine::filled().await;
    for (query, expected) in [
        (json!({"match_all": {}}), "abcdef"),
        (json!({"match_none": {}}), ""),
        (json!({"term": {"status": 404}}), "bc"),
        (json!({"term": {"status": "404"}}), "bc"),
        (json!({"term": {"status": {"value": 404.0}}}), "bc"),
        (json!({"term": {"data.url": "/cart"}}), "ae"),
        (json!({"term": {"data.url": {"value": "/CART", "case_insensitive": true}}}), "ae"),
        (json!({"term": {"ok": false}}), "be"),
        (json!({"term": {"ok": "true"}}), "acd"),
        (json!({"term": {"time": "2026-11-01T00:00:00Z"}}), "c"),
        (json!({"term": {"time": "2026-10-30"}}), "ab"),
        (json!({"term": {"ip": "::ffff:10.0.0.7"}}), "abcde"),
        (json!({"term": {"_id": "d"}}), "d"),
        (json!({"term": {"_index": "other-1"}}), "f"),
        (json!({"wildcard": {"_index": "*2026.10"}}), "ab"),
        (json!({"term": {"n": 7}}), "f"),
        (json!({"term": {"tags": "y"}}), "f"),
        (json!({"term": {"tags.keyword": "y"}}), "f"),
        (json!({"term": {"user.name": "kim"}}), "f"),
        (json!({"term": {"flag": true}}), "f"),
        (json!({"term": {"extra.k.a": "vb"}}), "b"),
        (json!({"term": {"extra": "vb"}}), "b"),
        (json!({"term": {"title.keyword": "quick dog"}}), "c"),
        (json!({"terms": {"status": [200, 500]}}), "ade"),
        (json!({"terms": {"data.url": ["/", "/admin"], "boost": 2.0}}), "cd"),
        (json!({"ids": {"values": ["a", "f", "zz"]}}), "af"),
        (json!({"range": {"status": {"gte": 404, "lt": 500}}}), "bc"),
        (json!({"range": {"status": {"gt": 404.5}}}), "d"),
        (json!({"range": {"price": {"gt": 1, "lte": 3}}}), "abc"),
        (json!({"range": {"price": {"lt": -3.5}}}), "d"),
        (json!({"range": {"time": {"gte": "2026-11-01"}}}), "cde"),
        (json!({"range": {"time": {"gt": "2026-10-30"}}}), "cde"),
        (json!({"range": {"time": {"lte": "2026-10-30"}}}), "ab"),
        (json!({"range": {"time": {"lt": "2026-10-30T11:30:00.251Z"}}}), "ab"),
        (json!({"range": {"time": {"lt": "2026-10-30T11:30:00.250Z"}}}), "a"),
        (json!({"range": {"time": {"gte": "2026-11-02||/d", "lt": "2026-11-02||+1d"}}}), "de"),
        (json!({"range": {"time": {"gte": 1_793_620_800_000_i64}}}), "de"),
        (json!({"range": {"time": {"gte": "now-15m", "lt": "now-5m"}}}), ""),
        (json!({"range": {"data.url": {"gte": "/b", "lt": "/cart/"}}}), "ae"),
        (json!({"exists": {"field": "status"}}), "abcde"),
        (json!({"exists": {"field": "title"}}), "abcde"),
        (json!({"exists": {"field": "extra.k"}}), "abcde"),
        (json!({"exists": {"field": "user"}}), "f"),
        (json!({"exists": {"field": "nothing"}}), ""),
        (json!({"prefix": {"data.url": "/cart"}}), "abe"),
        (json!({"wildcard": {"data.url": {"value": "*a?t*"}}}), "abe"),
        (json!({"wildcard": {"data.url": {"wildcard": "/CART", "case_insensitive": true}}}), "ae"),
        (json!({"match": {"title": "quick fox"}}), "bce"),
        (json!({"match": {"title": {"query": "quick brown", "operator": "and"}}}), "be"),
        (json!({"match": {"title": "삼성"}}), "a"),
        (json!({"match": {"title": "전자"}}), "ad"),
        (json!({"match": {"title.bigram": "성전자"}}), "ad"),
        (json!({"match": {"title": {"query": "성전자", "operator": "and"}}}), "a"),
        (json!({"match_phrase": {"title": "성전자"}}), "a"),
        (json!({"match": {"title": "자"}}), "ad"),
        (json!({"match": {"title": "하"}}), "d"),
        (json!({"match": {"status": "404"}}), "bc"),
        (json!({"match": {"status": "nonsense"}}), ""),
        (json!({"match_phrase": {"title": "brown fox"}}), "b"),
        (json!({"match_phrase": {"title": "quick brown"}}), "b"),
        (json!({"match_phrase": {"title": "전자 하락"}}), "d"),
        (json!({"multi_match": {"query": "/cart", "fields": ["title", "data.url^2"]}}), "ae"),
        (json!({"constant_score": {"filter": {"term": {"status": 500}}}}), "d"),
        (json!({"bool": {"must": [{"term": {"status": 404}}], "must_not": {"term": {"ok": true}}}}), "b"),
        (json!({"bool": {"should": [{"term": {"status": 500}}, {"term": {"status": 404}}]}}), "bcd"),
        (json!({"bool": {"filter": {"term": {"ok": true}}, "should": [{"term": {"status": 500}}]}}), "acd"),
        (
            json!({"bool": {"filter": {"term": {"ok": true}}, "should": [{"term": {"status": 500}}], "minimum_should_match": 1}}),
            "d",
        ),
        (
            json!({"bool": {"should": [{"term": {"ok": true}}, {"term": {"status": 404}}], "minimum_should_match": "100%"}}),
            "c",
        ),
        (json!({"bool": {"must_not": [{"exists": {"field": "status"}}]}}), "f"),
        (json!({"bool": {}}), "abcdef"),
    ] {
        assert_eq!(engine.ids(query.clone()).await, expected, "{query}");
    }
}

#[tokio::test]
async fn a_text_is_searched_by_words_and_its_keyword_by_the_whole_value() {
    let engine = Engine::empty();
    engine.search.define(vec![access_template()]).await.unwrap();
    let long = "가".repeat(8_191);
    engine
        .add(vec![
            document("s-access-1", "a", json!({"title": "Quick Dog", "type": long})),
            document("s-access-1", "b", json!({"title": format!("{long}가"), "type": format!("{long}가")})),
        ])
        .await;
    for (query, expected) in [
        (json!({"term": {"title": "Quick Dog"}}), ""),
        (json!({"term": {"title": "quick"}}), "a"),
        (json!({"term": {"title.keyword": "Quick Dog"}}), "a"),
        (json!({"term": {"title.keyword": "quick"}}), ""),
        (json!({"terms": {"title.keyword": ["Quick Dog", "quick"]}}), "a"),
        (json!({"prefix": {"title.keyword": "Quick D"}}), "a"),
        (json!({"prefix": {"title": "Quick D"}}), ""),
        (json!({"match": {"title.keyword": "quick dog"}}), ""),
        (json!({"match": {"title.bigram": "quick"}}), "a"),
        // 8,191 characters of three bytes each are not too many, one more is.
        (json!({"exists": {"field": "type"}}), "a"),
        (json!({"match": {"title": "가"}}), "b"),
    ] {
        assert_eq!(engine.ids(query.clone()).await, expected, "{query}");
    }
}

#[tokio::test]
async fn what_a_mapping_that_is_not_dynamic_does_not_name_is_kept_and_not_found() {
    let engine = Engine::empty();
    let template = |name: &str, mappings| IndexTemplate { name: name.into(), pattern: format!("{name}-*"), mappings };
    let text = json!({"type": "text", "fields": {"k": {"type": "keyword"}}});
    let named = json!({"a": {"properties": {"b": {"type": "long"}}}, "t": text});
    let one = template("one", json!({"dynamic": false, "properties": named}));
    let two = template("two", json!({"dynamic": "false", "properties": {"c": {"type": "keyword"}}}));
    engine.search.define(vec![one, two]).await.unwrap();
    let source = json!({"a": {"b": 1, "x": {"y": [1, {"z": 2}]}}, "x": "word", "t": "Some Text"});
    engine
        .add(vec![document("one-1", "a", source.clone()), document("two-1", "b", json!({"c": "word", "a": {"b": 1}}))])
        .await;
    for (query, expected) in [
        (json!({"term": {"a.b": 1}}), "a"),
        (json!({"term": {"x": "word"}}), ""),
        (json!({"exists": {"field": "x"}}), ""),
        (json!({"range": {"a.x.y": {"gte": 0}}}), ""),
        (json!({"term": {"a.x.y.z": 2}}), ""),
        (json!({"query_string": {"query": "word"}}), "b"),
        // The other index has no such field, which does not make its values keywords.
        (json!({"term": {"t": "Some Text"}}), ""),
        (json!({"term": {"t.k": "Some Text"}}), "a"),
    ] {
        assert_eq!(engine.ids(query.clone()).await, expected, "{query}");
    }
    let found = engine.search.search("one-*", &json!({})).await.unwrap();
    assert_eq!(found["hits"]["hits"][0]["_source"], source);
}

#[tokio::test]
async fn query_strings_find_what_they_should() {
    let engine = Engine::filled().await;
    for (text, expected) in [
        ("status:404 AND type:http.access", "bc"),
        ("status:404 OR status:500", "bcd"),
        ("status:[400 TO 499]", "bc"),
        ("status:{404 TO *]", "d"),
        ("status:>=404 AND NOT ok:true", "b"),
        ("time:[2026-11-01 TO 2026-11-01]", "c"),
        ("time:>2026-11-01", "de"),
        ("data.url:\\/cart", "ae"),
        ("data.url:/cart*", "abe"),
        ("data.url:*", "abcde"),
        ("_exists_:user.name", "f"),
        ("_id:c", "c"),
        ("_index:other-1", "f"),
        ("title:\"brown fox\"", "b"),
        ("title:(fox dog)", "bc"),
        ("title:QUICK", "bce"),
        ("삼성", "a"),
        ("kim", "f"),
        ("404", "bc"),
        ("fox kim", "bf"),
        ("+quick -fox", "ce"),
        ("ki*", "f"),
        ("va", "a"),
        ("*", "abcdef"),
        ("*:*", "abcdef"),
        ("", ""),
    ] {
        let query = json!({"query_string": {"query": text}});
        assert_eq!(engine.ids(query).await, expected, "{text}");
    }
    let query = json!({"query_string": {"query": "quick", "default_field": "title"}});
    assert_eq!(engine.ids(query).await, "bce");
    let query = json!({"query_string": {"query": "quick", "fields": ["data.url", "type"]}});
    assert_eq!(engine.ids(query).await, "");
    let query = json!({"query_string": {"query": "quick brown", "default_operator": "AND", "fields": ["t*"]}});
    assert_eq!(engine.ids(query).await, "be");
    let query = json!({"query_string": {"query": "title:성전자"}});
    assert_eq!(engine.ids(query).await, "ad");
    let query = json!({"query_string": {"query": "title:성전자", "default_operator": "and"}});
    assert_eq!(engine.ids(query).await, "a");
    let query = json!({"simple_query_string": {"query": "quick + -fox", "fields": ["title"]}});
    assert_eq!(engine.ids(query).await, "ce");
    let query = json!({"simple_query_string": {"query": "fox | \"quick dog\"", "fields": ["title"]}});
    assert_eq!(engine.ids(query).await, "bc");
}

#[tokio::test]
async fn patterns_choose_the_indices() {
    let engine = Engine::filled().await;
    for (pattern, expected) in [
        ("*", 6),
        ("_all", 6),
        ("s-access-*", 5),
        ("s-access-2026.10", 2),
        ("s-access-2026.10,other-*", 3),
        ("*,-other-*", 5),
        ("none", 0),
    ] {
        assert_eq!(engine.ask(pattern, json!({"size": 0})).await["hits"]["total"]["value"], expected, "{pattern}");
    }
}

#[tokio::test]
async fn an_answer_has_opensearchs_shape() {
    let engine = Engine::filled().await;
    let mut answer =
        engine.ask("s-access-2026.10", json!({"query": {"term": {"status": 404}}, "_source": ["status"]})).await;
    assert!(answer["took"].is_u64());
    answer["took"] = json!(0);
    assert_eq!(
        answer,
        json!({
            "took": 0, "timed_out": false, "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
            "hits": {
                "total": {"value": 1, "relation": "eq"}, "max_score": 1.0,
                "hits": [{"_index": "s-access-2026.10", "_id": "b", "_score": 1.0, "_source": {"status": 404}}],
            },
        })
    );
}

#[tokio::test]
async fn pages_are_sorted_and_follow_each_other() {
    let engine = Engine::filled().await;
    let ids = |answer: &Value| -> String {
        answer["hits"]["hits"].as_array().unwrap().iter().map(|hit| hit["_id"].as_str().unwrap()).collect()
    };
    for (sort, expected) in [
        (json!([{"time": "asc"}]), "abcdef"),
        (json!([{"time": {"order": "desc"}}]), "edcbaf"),
        (json!([{"time": {"order": "desc", "missing": "_first"}}]), "fedcba"),
        (json!([{"status": "desc"}, {"price": "asc"}]), "dbcaef"),
        (json!(["data.url", {"_id": "desc"}]), "dceabf"),
        (json!([{"title.keyword": "desc"}]), "aecbdf"),
        (json!([{"ok": "asc"}]), "beacdf"),
    ] {
        let answer = engine.ask("*", json!({"sort": sort})).await;
        assert_eq!(ids(&answer), expected, "{sort}");
        // The same in pages of two, by the sort values of the last hit.
        let (mut paged, mut after) = (String::new(), None);
        let sort = {
            let mut s = sort.as_array().unwrap().clone();
            s.push(json!("_id"));
            Value::Array(s)
        };
        if expected == "dceabf" {
            continue;
        }
        loop {
            let mut body = json!({"sort": sort, "size": 2});
            if let Some(after) = after {
                body["search_after"] = after;
            }
            let answer = engine.ask("*", body).await;
            let hits = answer["hits"]["hits"].as_array().unwrap();
            let Some(last) = hits.last() else { break };
            after = Some(last["sort"].clone());
            paged.push_str(&ids(&answer));
        }
        assert_eq!(paged, expected, "{sort}");
    }
    let answer = engine.ask("*", json!({"sort": ["time"], "from": 1, "size": 2})).await;
    assert_eq!(ids(&answer), "bc");
    assert_eq!(answer["hits"]["hits"][0]["sort"], json!([1_793_359_800_250_i64]));
    assert_eq!(answer["hits"]["hits"][0]["_score"], Value::Null);
}

#[tokio::test]
async fn the_source_is_cut_to_what_is_asked_for() {
    let engine = Engine::filled().await;
    let source = |filter: Value| {
        let body = json!({"query": {"ids": {"values": ["a"]}}, "_source": filter});
        let engine = &engine;
        async move { engine.ask("*", body).await["hits"]["hits"][0].clone() }
    };
    assert_eq!(source(json!(false)).await.get("_source"), None);
    assert_eq!(source(json!(["data.*", "status"])).await["_source"], json!({"status": 200, "data": {"url": "/cart"}}));
    assert_eq!(source(json!("data")).await["_source"], json!({"data": {"url": "/cart"}}));
    let cut = source(json!({"includes": ["data", "ok"], "excludes": ["*.url"]})).await;
    assert_eq!(cut["_source"], json!({"ok": true, "data": {}}));
    let total = engine.ask("*", json!({"size": 0, "track_total_hits": 3})).await;
    assert_eq!(total["hits"]["total"], json!({"value": 3, "relation": "gte"}));
    assert_eq!(engine.ask("*", json!({"track_total_hits": false})).await["hits"].get("total"), None);
}

#[tokio::test]
async fn scores_put_the_better_match_first() {
    let engine = Engine::empty();
    let template = IndexTemplate {
        name: "t".to_owned(),
        pattern: "*".to_owned(),
        mappings: json!({"properties": {"title": {"type": "text"}}}),
    };
    engine.search.define(vec![template]).await.unwrap();
    engine
        .add(vec![
            document("i", "a", json!({"title": "a fox and a dog"})),
            document("i", "b", json!({"title": "a fox, a fox, a fox"})),
            document("i", "c", json!({"title": "dog"})),
        ])
        .await;
    let answer = engine.ask("*", json!({"query": {"match": {"title": "fox"}}})).await;
    let hits = answer["hits"]["hits"].as_array().unwrap();
    assert_eq!([&hits[0]["_id"], &hits[1]["_id"]], ["b", "a"]);
    assert_eq!(answer["hits"]["max_score"], hits[0]["_score"]);
    assert!(hits[0]["_score"].as_f64() > hits[1]["_score"].as_f64());
}

#[tokio::test]
async fn bucket_aggregations_count_as_opensearch_does() {
    let engine = Engine::filled().await;
    let aggs = engine
        .aggs(json!({
            "status": {"terms": {"field": "status"}},
            "url": {"terms": {"field": "data.url", "size": 1}, "aggs": {"price": {"avg": {"field": "price"}}}},
            "ok": {"terms": {"field": "ok"}},
            "day": {"date_histogram": {"field": "time", "fixed_interval": "1d"}},
            "steps": {"histogram": {"field": "price", "interval": 50, "min_doc_count": 1}},
        }))
        .await;
    assert_eq!(
        aggs["status"],
        json!({
            "doc_count_error_upper_bound": 0, "sum_other_doc_count": 0,
            "buckets": [{"key": 200, "doc_count": 2}, {"key": 404, "doc_count": 2}, {"key": 500, "doc_count": 1}],
        })
    );
    assert_eq!(
        aggs["url"],
        json!({
            "doc_count_error_upper_bound": 0, "sum_other_doc_count": 3,
            "buckets": [{"key": "/cart", "doc_count": 2, "price": {"value": 50.75}}],
        })
    );
    assert_eq!(
        aggs["ok"]["buckets"],
        json!([{"key": 1, "key_as_string": "true", "doc_count": 3}, {"key": 0, "key_as_string": "false", "doc_count": 2}])
    );
    assert_eq!(
        aggs["day"]["buckets"],
        json!([
            {"key_as_string": "2026-10-30T00:00:00.000Z", "key": 1_793_318_400_000_i64, "doc_count": 2},
            {"key_as_string": "2026-10-31T00:00:00.000Z", "key": 1_793_404_800_000_i64, "doc_count": 0},
            {"key_as_string": "2026-11-01T00:00:00.000Z", "key": 1_793_491_200_000_i64, "doc_count": 1},
            {"key_as_string": "2026-11-02T00:00:00.000Z", "key": 1_793_577_600_000_i64, "doc_count": 2},
        ])
    );
    assert_eq!(
        aggs["steps"]["buckets"],
        json!([{"key": -50.0, "doc_count": 1}, {"key": 0.0, "doc_count": 3}, {"key": 100.0, "doc_count": 1}])
    );
}

#[tokio::test]
async fn metric_aggregations_compute_as_opensearch_does() {
    let engine = Engine::filled().await;
    let aggs = engine
        .aggs(json!({
            "min": {"min": {"field": "price"}}, "max": {"max": {"field": "status"}}, "sum": {"sum": {"field": "price"}},
            "count": {"value_count": {"field": "data.url"}}, "urls": {"cardinality": {"field": "data.url"}},
            "stats": {"stats": {"field": "status"}}, "last": {"max": {"field": "time"}}, "none": {"avg": {"field": "nothing"}},
            "percentiles": {"percentiles": {"field": "status", "percents": [50]}},
        }))
        .await;
    assert_eq!(aggs["min"], json!({"value": -4.0}));
    assert_eq!(aggs["max"], json!({"value": 500.0}));
    assert_eq!(aggs["sum"], json!({"value": 103.0}));
    assert_eq!(aggs["count"], json!({"value": 5}));
    assert_eq!(aggs["urls"], json!({"value": 4}));
    assert_eq!(aggs["stats"], json!({"count": 5, "min": 200.0, "max": 500.0, "avg": 341.6, "sum": 1708.0}));
    assert_eq!(aggs["last"], json!({"value": 1_793_624_400_000.0, "value_as_string": "2026-11-02T13:00:00.000Z"}));
    assert_eq!(aggs["none"], json!({"value": null}));
    let median = aggs["percentiles"]["values"]["50.0"].as_f64().unwrap();
    assert!((median - 404.0).abs() < 5.0, "{median}");
}

#[tokio::test]
async fn filters_and_ranges_make_a_bucket_each() {
    let engine = Engine::filled().await;
    let aggs = engine
        .aggs(json!({
            "errors": {"filter": {"range": {"status": {"gte": 400}}}, "aggs": {"urls": {"terms": {"field": "data.url"}}}},
            "named": {"filters": {"filters": {"ok": {"term": {"ok": true}}, "not": {"term": {"ok": false}}}}},
            "listed": {"filters": {"filters": [{"match_all": {}}]}},
            "prices": {"range": {"field": "price", "ranges": [{"to": 2}, {"from": 2, "to": 50.5, "key": "middle"}, {"from": 1}]}},
            "days": {"date_range": {"field": "time", "ranges": [{"from": "2026-11-01", "to": "2026-11-02"}]}},
            "lacking": {"missing": {"field": "user"}},
        }))
        .await;
    assert_eq!(aggs["errors"]["doc_count"], 3);
    assert_eq!(aggs["errors"]["urls"]["buckets"].as_array().unwrap().len(), 3);
    assert_eq!(aggs["named"], json!({"buckets": {"ok": {"doc_count": 3}, "not": {"doc_count": 2}}}));
    assert_eq!(aggs["listed"], json!({"buckets": [{"doc_count": 5}]}));
    assert_eq!(
        aggs["prices"]["buckets"],
        json!([
            {"key": "*-2.0", "to": 2.0, "doc_count": 2},
            {"key": "middle", "from": 2.0, "to": 50.5, "doc_count": 2},
            {"key": "1.0-*", "from": 1.0, "doc_count": 4},
        ])
    );
    assert_eq!(
        aggs["days"]["buckets"],
        json!([{
            "key": "2026-11-01T00:00:00.000Z-2026-11-02T00:00:00.000Z", "from": 1_793_491_200_000.0,
            "from_as_string": "2026-11-01T00:00:00.000Z", "to": 1_793_577_600_000.0,
            "to_as_string": "2026-11-02T00:00:00.000Z", "doc_count": 1,
        }])
    );
    assert_eq!(aggs["lacking"], json!({"doc_count": 5}));
}

#[tokio::test]
async fn date_histograms_take_zones_bounds_and_formats() {
    let engine = Engine::filled().await;
    let aggs = engine
        .aggs(json!({
            "seoul": {"date_histogram": {"field": "time", "calendar_interval": "day", "time_zone": "+09:00", "min_doc_count": 1}},
            "week": {"date_histogram": {"field": "time", "calendar_interval": "week", "format": "yyyy-MM-dd", "keyed": true}},
            "wide": {"date_histogram": {
                "field": "time", "fixed_interval": "1d", "extended_bounds": {"min": "2026-10-29", "max": "2026-11-03"},
            }},
        }))
        .await;
    let keys: Vec<&str> = aggs["seoul"]["buckets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bucket| bucket["key_as_string"].as_str().unwrap())
        .collect();
    assert_eq!(
        keys,
        ["2026-10-30T00:00:00.000+09:00", "2026-11-01T00:00:00.000+09:00", "2026-11-02T00:00:00.000+09:00"]
    );
    assert_eq!(aggs["seoul"]["buckets"][0]["key"], 1_793_286_000_000_i64);
    assert_eq!(aggs["week"]["buckets"]["2026-10-26"]["doc_count"], 3);
    assert_eq!(aggs["week"]["buckets"]["2026-11-02"]["doc_count"], 2);
    assert_eq!(aggs["wide"]["buckets"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn an_empty_index_answers_and_aggregates_nothing() {
    let engine = Engine::empty();
    let body = json!({
        "query": {"query_string": {"query": "a OR b:1"}},
        "aggs": {"t": {"terms": {"field": "x"}}, "m": {"max": {"field": "y"}}, "f": {"filters": {"filters": {"a": {"match_all": {}}}}}},
    });
    let answer = engine.ask("*", body).await;
    assert_eq!(answer["hits"]["total"]["value"], 0);
    assert_eq!(answer["aggregations"]["t"]["buckets"], json!([]));
    assert_eq!(answer["aggregations"]["m"], json!({"value": null}));
    assert_eq!(answer["aggregations"]["f"]["buckets"]["a"]["doc_count"], 0);
}

#[tokio::test]
async fn mistakes_are_named_with_their_place() {
    let engine = Engine::filled().await;
    for (body, start) in [
        (json!({"query": {"fuzzy": {"a": "b"}}}), "`query.fuzzy`: an unknown query"),
        (json!({"query": {"bool": {"must": [{"term": {}}]}}}), "`query.bool.must[0].term`: it takes one field"),
        (json!({"query": {"bool": {"musst": []}}}), "`query.bool.musst`: unknown"),
        (json!({"query": {"range": {"status": {"gteq": 1}}}}), "`query.range.status.gteq`: unknown"),
        (json!({"query": {"query_string": {"query": "a)"}}}), "`query.query_string.query`: unmatched `)`"),
        (json!({"query": {}}), "`query`: it takes a query"),
        (json!({"query": []}), "`query`: it takes an object"),
        (json!({"size": 10_001}), "`size`: it takes 0 to 10000"),
        (json!({"size": -1}), "`size`: it takes 0 to 10000"),
        (json!({"highlight": {}}), "`highlight`: unknown here"),
        (json!({"aggs": {"a": {"top_hats": {}}}}), "`aggs.a.top_hats`: an unknown aggregation"),
        (json!({"aggs": {"a": {"terms": {}}}}), "`aggs.a.terms`: it lacks `field`"),
        (json!({"aggs": {"a": {"filter": {"nope": {}}}}}), "`aggs.a.filter.nope`: an unknown query"),
        (
            json!({"aggs": {"a": {"date_histogram": {"field": "time", "fixed_interval": "1q"}}}}),
            "`aggs.a.date_histogram.fixed_interval`",
        ),
        (json!({"search_after": [1]}), "`search_after`: it takes a `sort`"),
        (json!({"sort": [{"a": "up"}]}), "`sort[0].a`: it takes"),
        (json!([]), "`the body`: it takes an object"),
    ] {
        let detail = engine.fault(body.clone()).await;
        assert!(detail.starts_with(start), "{body}: {detail}");
    }
    // A value that no index with such a field can hold.
    let error = engine.search.search("s-access-*", &json!({"query": {"term": {"status": "abc"}}})).await.unwrap_err();
    assert_eq!(error.detail, "`query.term.status`: `abc` is not a value of this field");
}

#[tokio::test]
async fn requests_are_bounded() {
    let engine = Engine::filled().await;
    let mut deep = json!({"match_all": {}});
    for _ in 0..40 {
        deep = json!({"bool": {"must": [deep]}});
    }
    assert!(engine.fault(json!({"query": deep})).await.contains("nest deeper"));
    let many: Vec<Value> = (0..1_100).map(|n| json!({"term": {"a": n}})).collect();
    assert!(engine.fault(json!({"query": {"bool": {"should": many}}})).await.contains("more than 1024 clauses"));
    let long = "*".repeat(2_000);
    assert!(engine.fault(json!({"query": {"wildcard": {"a": long}}})).await.contains("it takes up to"));
    let fine = json!({"aggs": {"a": {"date_histogram": {"field": "time", "fixed_interval": "1s"}}}, "size": 0});
    assert!(engine.fault(fine).await.contains("ucket"), "three days of seconds are too many buckets");
}

#[tokio::test]
async fn no_more_searches_go_at_a_time_than_there_are_turns() {
    let (engine, other) = (Engine::filled().await, Engine::filled().await);
    let turns = engine.search.0.turns.clone();
    let all = turns.acquire_many(u32::try_from(turns.available_permits()).unwrap()).await.unwrap();
    let search = engine.search.clone();
    let waiting = tokio::spawn(async move { search.search("*", &json!({})).await });
    // Searches that have their turns are done meanwhile.
    for _ in 0..20 {
        other.ask("*", json!({})).await;
    }
    assert!(!waiting.is_finished());
    drop(all);
    assert_eq!(waiting.await.unwrap().unwrap()["hits"]["total"]["value"], 6);
    // Also one that is refused gives its turn back.
    for _ in 0..100 {
        engine.fault(json!({"query": {"nothing": {}}})).await;
    }
    assert_eq!(engine.ask("*", json!({})).await["hits"]["total"]["value"], 6);
}

#[tokio::test]
async fn templates_and_documents_are_there_after_opening_again() {
    let engine = Engine::filled().await.reopened();
    assert_eq!(engine.ids(json!({"match": {"title": "삼성"}})).await, "a");
    let document = document("s-access-2026.12", "z", json!({"status": "abc"}));
    assert_eq!(outcomes(&engine.search.create(vec![document]).await.unwrap()), "R");
}

#[tokio::test]
async fn a_second_opening_is_told_that_the_folder_is_in_use() {
    let engine = Engine::empty();
    let error = EmbeddedSearch::open(engine.dir.path(), config()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(error.detail, "the search folder is in use by another process");
}

#[tokio::test]
async fn fields_beyond_the_limit_are_still_searchable() {
    let engine = Engine::empty();
    let documents = (0..1_200).map(|n| document("i", &n.to_string(), json!({format!("k{n}"): "v"}))).collect();
    engine.add(documents).await;
    for n in [3, 1_100] {
        assert_eq!(engine.ids(json!({"term": {format!("k{n}"): "v"}})).await, n.to_string());
    }
}

mod faults {
    use super::*;
    use std::fmt;
    use std::io::{self, Write};
    use std::sync::atomic::{AtomicBool, Ordering};
    use tantivy::directory::error::{DeleteError, OpenReadError, OpenWriteError};
    use tantivy::directory::{
        AntiCallToken, FileHandle, RamDirectory, TerminatingWrite, WatchCallback, WatchHandle, WritePtr,
    };

    /// A directory whose disk is full when the flag says so.
    #[derive(Clone)]
    struct FullDirectory {
        inner: RamDirectory,
        full: Arc<AtomicBool>,
    }

    impl fmt::Debug for FullDirectory {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("FullDirectory")
        }
    }

    impl FullDirectory {
        fn check(&self) -> io::Result<()> {
            if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    struct FullWriter {
        inner: WritePtr,
        directory: FullDirectory,
    }

    impl Write for FullWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.directory.check()?;
            self.inner.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.directory.check()?;
            self.inner.flush()
        }
    }

    impl TerminatingWrite for FullWriter {
        fn terminate_ref(&mut self, token: AntiCallToken) -> io::Result<()> {
            self.directory.check()?;
            self.inner.terminate_ref(token)
        }
    }

    impl Directory for FullDirectory {
        fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
            self.inner.get_file_handle(path)
        }

        fn delete(&self, path: &Path) -> Result<(), DeleteError> {
            self.inner.delete(path)
        }

        fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
            self.inner.exists(path)
        }

        fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
            self.check().map_err(|error| OpenWriteError::wrap_io_error(error, path.to_owned()))?;
            let inner = self.inner.open_write(path)?;
            Ok(io::BufWriter::new(Box::new(FullWriter { inner, directory: self.clone() })))
        }

        fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
            self.inner.atomic_read(path)
        }

        fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
            self.check()?;
            self.inner.atomic_write(path, data)
        }

        fn sync_directory(&self) -> io::Result<()> {
            self.inner.sync_directory()
        }

        fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
            self.inner.watch(callback)
        }
    }

    #[tokio::test]
    async fn a_full_disk_fails_the_call_and_harms_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let full = Arc::new(AtomicBool::new(false));
        let directory = FullDirectory { inner: RamDirectory::create(), full: full.clone() };
        let search = EmbeddedSearch::open_in(Box::new(directory), dir.path(), config()).unwrap();
        let doc = |id: &str| document("i", id, json!({"a": "x"}));
        let first = search.create(vec![doc("1")]).await.unwrap();
        assert_eq!(outcomes(&first), "C", "{first:?}");

        full.store(true, Ordering::SeqCst);
        for _ in 0..2 {
            let failed = search.create(vec![doc("1"), doc("2")]).await.unwrap();
            let kinds: Vec<ErrorKind> = failed
                .iter()
                .map(|outcome| match outcome {
                    DocumentOutcome::Failed(error) => error.kind,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(kinds, [ErrorKind::Full, ErrorKind::Full]);
        }
        assert_eq!(search.search("*", &json!({"size": 0})).await.unwrap()["hits"]["total"]["value"], 1);

        full.store(false, Ordering::SeqCst);
        assert_eq!(outcomes(&search.create(vec![doc("1"), doc("2")]).await.unwrap()), "EC");
        assert_eq!(search.search("*", &json!({"size": 0})).await.unwrap()["hits"]["total"]["value"], 2);
    }

    #[tokio::test]
    async fn an_index_that_this_build_cannot_read_is_known_at_the_start() {
        let Engine { search, dir } = Engine::filled().await;
        drop(search);
        for file in std::fs::read_dir(dir.path().join("index")).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "term") {
                // The kind of a dictionary, at its end: 2 is the one in blocks, 1 the automaton.
                let mut bytes = std::fs::read(&path).unwrap();
                let ends: Vec<usize> = (4..bytes.len()).filter(|at| bytes[at - 4..*at] == [2, 0, 0, 0]).collect();
                ends.into_iter().for_each(|end| bytes[end - 4] = 1);
                std::fs::write(&path, bytes).unwrap();
            }
        }
        let error = EmbeddedSearch::open(dir.path(), config()).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt);
        assert!(error.detail.contains("move the folder away"), "{error}");
    }

    #[tokio::test]
    async fn a_folder_copied_while_it_is_written_opens_at_its_last_commit() {
        let engine = Engine::filled().await;
        // What a killed process leaves: files of the last commit, and begun ones.
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("index")).unwrap();
        for file in std::fs::read_dir(engine.dir.path().join("index")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join("index").join(file.file_name())).unwrap();
        }
        std::fs::write(copy.path().join("index/00000000000000000000000000000000.store"), "begun").unwrap();
        let search = EmbeddedSearch::open(copy.path(), config()).unwrap();
        assert_eq!(search.search("*", &json!({"size": 0})).await.unwrap()["hits"]["total"]["value"], 6);
        let again = search.create(vec![document("other-1", "f", json!({})), document("other-1", "g", json!({}))]);
        assert_eq!(outcomes(&again.await.unwrap()), "EC");
    }
}

mod properties {
    use super::*;
    use crate::search::query_string::{Dialect, Operator, parse};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_query_string_panics(text in r#"[a-z *?:()"\[\]{}+\-!&|^~\\<>=/0-9가-힣]{0,60}"#) {
            let _ = parse(&text, Dialect::Lucene, Operator::Or);
            let _ = parse(&text, Dialect::Simple, Operator::And);
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse(&text, Dialect::Lucene, Operator::And);
            prop_assert!(parse(&text, Dialect::Simple, Operator::Or).is_ok() || text.contains('('));
            let _ = dates::parse_math(&text, 0);
            let _ = text::pieces(&text);
        }

        #[test]
        fn no_date_panics(text in r"(now|2026-01-0[1-9](T[0-9:.]{0,12})?(\|\|)?)[-+/0-9yMwdhms]{0,12}") {
            let _ = dates::parse_math(&text, 1_790_000_000_000);
        }
    }
}
