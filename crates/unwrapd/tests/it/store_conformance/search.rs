//! Finding messages by a part of an id.

use unwrapd::store::Page;

use super::look::{about, with_messages_about};
use super::replay::{filter, found, ids};
use super::{Place, PostgresPlace, SqlitePlace, at, message};

every_store!(;
    a_part_of_an_id_finds_messages_by_each_of_their_ids,
    a_whole_id_finds_its_own_messages_only,
    a_search_by_a_part_of_an_id_goes_on_page_by_page,
);

async fn a_part_of_an_id_finds_messages_by_each_of_their_ids(place: &dyn Place) {
    let messages = [
        ("wh_aaa1", "evt_bbb1", "resp_ccc1"),
        ("wh_aaa2", "evt_bbb2", "resp_ccc2"),
        ("wh_ccc3", "evt_aaa3", "resp_aaa3"),
    ];
    let store = with_messages_about(place, &messages).await;
    // A payload that is not JSON.
    store
        .accept(message("wh_aaa4", at(1)), vec![])
        .await
        .unwrap();
    let cases: [(&str, &[&str]); 8] = [
        (
            r#"{"id_part":"_aaa"}"#,
            &["wh_aaa4", "wh_ccc3", "wh_aaa2", "wh_aaa1"],
        ),
        (r#"{"id_part":"_bbb"}"#, &["wh_aaa2", "wh_aaa1"]),
        (r#"{"id_part":"_ccc"}"#, &["wh_ccc3", "wh_aaa2", "wh_aaa1"]),
        (r#"{"id_part":"sp_ccc2"}"#, &["wh_aaa2"]),
        (r#"{"id_part":"_AAA"}"#, &[]),
        (r#"{"id_part":"response"}"#, &[]),
        (r#"{"id_part":"_aaa","status":["unrouted"]}"#, &["wh_aaa4"]),
        (
            r#"{"id_part":"_aaa","resource":["resp_ccc1"]}"#,
            &["wh_aaa1"],
        ),
    ];
    for (asked, expected) in cases {
        assert_eq!(found(&store, asked).await, expected, "{asked}");
    }
}

async fn a_whole_id_finds_its_own_messages_only(place: &dyn Place) {
    let messages = [
        ("wh_1", "evt_1", "resp_1"),
        ("wh_10", "evt_10", "resp_10"),
        ("wh_11", "evt_11", "resp_1"),
    ];
    let store = with_messages_about(place, &messages).await;
    for (part, expected) in [
        ("wh_1", &["wh_1"][..]),
        ("evt_1", &["wh_1"]),
        ("resp_1", &["wh_11", "wh_1"]),
        ("esp_1", &["wh_11", "wh_10", "wh_1"]),
    ] {
        let asked = format!(r#"{{"id_part":"{part}"}}"#);
        assert_eq!(found(&store, &asked).await, expected, "{part}");
    }
    let asked = r#"{"id_part":"resp_1","webhook_id":["wh_10","wh_11"]}"#;
    assert_eq!(found(&store, asked).await, ["wh_11", "wh_10"]);
}

async fn a_search_by_a_part_of_an_id_goes_on_page_by_page(place: &dyn Place) {
    let store = place.open().await;
    for number in 0..150 {
        let resource = if number % 2 == 0 { "even" } else { "odd" };
        let message = about(
            &format!("wh_{number}"),
            &format!("evt_{number}"),
            &format!("resp_{resource}_{number}"),
        );
        store.accept(message, vec![]).await.unwrap();
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = Page::new(after, 20);
        let asked = filter(r#"{"id_part":"_even_"}"#);
        let found = store.list_messages(&asked, at(2), page).await.unwrap();
        seen.extend(ids(&found));
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    let even: Vec<String> = (0..75)
        .rev()
        .map(|half| format!("wh_{}", 2 * half))
        .collect();
    assert_eq!(seen, even);
}
