//! What the evaluation does without a parser: binding, sharing, limits. `config::cel` has tests of the language.

use serde_json::{Value, json};

use super::*;
use crate::testing;

fn input(root: Root, path: &[&str]) -> Input {
    Input { root, path: path.iter().map(|name| Box::from(*name)).collect() }
}

fn literal(value: Value) -> Box<Expression> {
    Box::new(Expression::Literal(value))
}

fn equal(one: Expression, other: Expression) -> Expression {
    Expression::Compare(Compared::Equal, Box::new(one), Box::new(other))
}

/// `claims.role == "admin" || event.data.owner == claims.sub`
fn by_owner() -> Arc<Rule> {
    let inputs = [(Root::Claims, &["role"][..]), (Root::Claims, &["sub"]), (Root::Event, &["data", "owner"])];
    let is_admin = equal(Expression::Input(0), Expression::Literal(json!("admin")));
    let is_owner = equal(Expression::Input(2), Expression::Input(1));
    let expression = Expression::Or(Box::new(is_admin), Box::new(is_owner));
    let inputs = inputs.iter().map(|(root, path)| input(*root, path)).collect();
    Arc::new(Rule::new("/x".into(), "by owner", expression, inputs))
}

fn bind(rule: &Arc<Rule>, claims: &Value) -> Arc<BoundRule> {
    rule.bind(Some(&claims.as_object().unwrap().clone().into()), &[])
}

fn owned_by(offset: i64, owner: &Value) -> Arc<Event> {
    let event = testing::event("orders", 0, offset, &[]);
    let data = json!({ "owner": owner }).to_string();
    let head = format!(r#"{{"id":"{}","ts":{offset},"type":"test","data":"#, event.id);
    let payload = head.len()..head.len() + data.len();
    Arc::new(event.with_envelope(format!("{head}{data}}}").into(), payload))
}

#[test]
fn what_claims_decide_is_decided_once() {
    let rule = by_owner();
    assert_eq!(bind(&rule, &json!({"role": "admin", "sub": "a"})).decision(), Decision::Allowed);
    assert_eq!(bind(&rule, &json!({"role": "user", "sub": "a"})).decision(), Decision::ByEvent);
    assert_eq!(bind(&rule, &json!({"sub": "a"})).decision(), Decision::ByEvent, "the other operand may allow it");
    let expression = equal(Expression::Input(0), Expression::Literal(json!("admin")));
    let strict = Arc::new(Rule::new("/x".into(), "admin", expression, vec![input(Root::Claims, &["role"])]));
    assert_eq!(bind(&strict, &json!({"role": "user"})).decision(), Decision::Denied(None));
    assert_eq!(bind(&strict, &json!({})).decision(), Decision::Denied(Some(Failure::Missing)));
    assert_eq!(strict.bind(None, &[]).decision(), Decision::Denied(Some(Failure::Missing)));
}

#[test]
fn clients_with_the_same_values_share_a_rule_and_its_verdicts() {
    let rule = by_owner();
    let one = bind(&rule, &json!({"role": "user", "sub": "a", "iat": 1}));
    let same = bind(&rule, &json!({"role": "user", "sub": "a", "iat": 2}));
    let other = bind(&rule, &json!({"role": "user", "sub": "b"}));
    assert!(Arc::ptr_eq(&one, &same) && one.id != other.id);
    let (judge, event) = (Judge::default(), owned_by(1, &json!("a")));
    assert!(judge.allows(Some(&one), &event) && judge.allows(None, &event));
    assert!(!judge.allows(Some(&other), &event));
    assert!(!judge.allows(Some(&one), &owned_by(2, &json!("b"))), "verdicts are those of one event");
    assert!(judge.allows(Some(&one), &event));
    assert!(judge.take_failures().is_empty());
    drop((one, same, other));
    (0..200).for_each(|n| drop(bind(&rule, &json!({ "role": "user", "sub": n.to_string() }))));
    assert!(rule.bound.lock().unwrap().len() < 200, "those of closed streams are removed");
}

#[test]
fn a_failure_denies_and_is_counted() {
    let (rule, judge) = (by_owner(), Judge::default());
    let bound = bind(&rule, &json!({"role": "user", "sub": "a"}));
    let missing = testing::event("orders", 0, 1, &[]);
    assert!(!judge.allows(Some(&bound), &missing));
    assert!(!judge.allows(Some(&bound), &missing), "evaluated once");
    assert!(!judge.allows(Some(&bound), &owned_by(2, &json!("a".repeat(VALUE_BYTES_MAX)))));
    let failures = Failures { count: 2, last: Failure::Unusable };
    assert_eq!(judge.take_failures().into_iter().collect::<Vec<_>>(), [("/x".into(), failures)]);
    assert!(judge.take_failures().is_empty());
}

#[test]
fn another_parameter_of_the_path_is_decided_again() {
    let inputs = vec![input(Root::Path, &["id"]), input(Root::Claims, &["ids"])];
    let expression = Expression::In(Box::new(Expression::Input(0)), Box::new(Expression::Input(1)));
    let rule = Arc::new(Rule::new("/x/{id}".into(), "mine", expression, inputs));
    let claims = json!({"ids": ["1", "2"]});
    let bound = rule.bind(Some(&claims.as_object().unwrap().clone().into()), &[("id".into(), "1".into())]);
    assert_eq!(bound.decision(), Decision::Allowed);
    assert_eq!(bound.with_parameter("id", "2").decision(), Decision::Allowed);
    assert_eq!(bound.with_parameter("id", "3").decision(), Decision::Denied(None));
    assert!(Arc::ptr_eq(&bound.with_parameter("other", "3"), &bound));
}

#[test]
fn an_expression_takes_a_limited_number_of_steps() {
    let elements = |count: usize| literal(Value::Array(vec![json!(1); count]));
    let never = Box::new(equal(Expression::Variable(0), Expression::Literal(json!(2))));
    let exists = |count| Expression::Exists(elements(count), never.clone());
    let decide =
        |expression: Expression| Arc::new(Rule::new("/x".into(), "", expression, vec![])).bind(None, &[]).decision();
    assert_eq!(decide(exists(100)), Decision::Denied(None));
    let bomb = Expression::Exists(elements(100), Box::new(exists(100)));
    assert_eq!(decide(bomb.clone()), Decision::Denied(Some(Failure::Steps)));
    let or_true = Expression::Or(Box::new(bomb), literal(json!(true)));
    assert_eq!(decide(or_true), Decision::Denied(Some(Failure::Steps)), "no operand makes up for it");
    let long = "x".repeat(VALUE_BYTES_MAX / 2 + 1);
    let joined = Expression::Calculate(Arithmetic::Add, literal(json!(long)), literal(json!(long)));
    assert_eq!(decide(equal(joined.clone(), joined)), Decision::Denied(Some(Failure::Unusable)));
}

#[test]
fn a_claim_that_was_dropped_is_not_one_that_is_absent() {
    let suspended = || input(Root::Claims, &["suspended"]);
    let expression = Expression::Not(Box::new(Expression::Has(0)));
    let rule = Arc::new(Rule::new("/x".into(), "not suspended", expression, vec![suspended()]));
    let claims = json!({ "sub": "a" }).as_object().unwrap().clone();
    let decision = |claims: Claims| rule.bind(Some(&claims), &[]).decision();
    assert_eq!(decision(claims.clone().into()), Decision::Allowed);
    assert_eq!(decision(Claims::of_known(claims.clone(), [suspended().path])), Decision::Allowed);
    assert_eq!(decision(Claims::of_known(claims, [])), Decision::Denied(Some(Failure::Unusable)));
}

#[test]
fn a_list_of_long_values_costs_steps() {
    let elements = |count: usize| literal(Value::Array(vec![json!(1); count]));
    let contains = |count: usize| {
        let list = Expression::List([*elements(count), *elements(count)].into());
        let expression = Expression::In(literal(json!("x")), Box::new(list));
        Arc::new(Rule::new("/x".into(), "list", expression, Vec::new())).bind(None, &[]).decision()
    };
    assert_eq!(contains(10), Decision::Denied(None));
    assert_eq!(contains(6_000), Decision::Denied(Some(Failure::Steps)));
}
