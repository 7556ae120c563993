//! Requests at once: what they answer, and what the store has then, is what the model would do in some order of their steps.
//!
//! All of them begin before the first one ends, so every order is a legal one, as long as each request's own steps keep
//! theirs. That makes it the question of linearizability, asked of steps instead of whole requests: tower-sessions loads a
//! session when a request begins and writes it when it ends, so whole requests have never been atomic.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use session_refresh_tests::backends::Backend;

use crate::{
    machine::{RUNTIME, on_every_store, run},
    model::Stage,
    sequences::{self, Model, ask, fours, process},
    system::System,
    world::{Answer, Ask, Asked, No, Process, Record, Step, World},
};

/// What happens one after the other, and then at once.
#[derive(Clone, Debug)]
pub struct Round {
    pub before: Vec<Step>,
    pub at_once: Vec<Ask>,
}

/// Requests that nothing goes wrong with, mostly of one browser.
fn smooth() -> impl Strategy<Value = Ask> {
    let client = prop_oneof![4 => Just(0_usize), 1 => Just(1)];
    (ask(), client).prop_map(|(ask, client)| Ask {
        client,
        stop: None,
        fault: None,
        is_lost: false,
        ..ask
    })
}

fn round() -> impl Strategy<Value = Round> {
    let before = prop_oneof![
        2 => smooth().prop_map(Step::Ask),
        2 => fours(1..30, 0).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
    ];
    let before = prop::collection::vec(before, 0..4);
    let at_once = prop::collection::vec(smooth(), 2..5);
    (before, at_once).prop_map(|(before, at_once)| Round { before, at_once })
}

on_every_store!(races);

fn races<B: Backend>() {
    let rounds = ((process(), process()), prop::collection::vec(round(), 1..8));
    run::<B, _>(&rounds, |backend, ((first, second), rounds)| {
        RUNTIME.block_on(explain(backend, [first, second], rounds));
    });
}

pub async fn explain<B: Backend>(backend: B, processes: [Process; 2], rounds: Vec<Round>) {
    let mut system = System::start(backend, &processes).await;
    let mut model = Model::new(processes);
    for Round { before, at_once } in rounds {
        for step in before {
            model = sequences::follow(&mut system, model, &step).await;
        }
        model.world = race(&mut system, model.world, &at_once).await;
    }
}

/// Sends the requests at once, and finds the world in which they have been answered like that.
async fn race<B: Backend>(system: &mut System<B>, mut world: World, asks: &[Ask]) -> World {
    world.asked = Asked::default();
    let mut begun = world.clone();
    for ask in asks {
        let cookie = world.clients[ask.client];
        let no = begun.arrive(ask.clone());
        system.send(no, ask, cookie);
    }
    let mut seen = Seen {
        may_be_busy: B::MAY_BE_BUSY,
        ..Seen::default()
    };
    for no in begun.requests.keys() {
        let answer = system.answered(*no).await;
        seen.answers.insert(*no, system.read(*no, &answer));
    }
    seen.store = system.stored().await;
    system.asked();
    let mut tried = HashSet::new();
    let explained = seen.explain(&begun, &mut tried);
    let Some(mut world) = explained else {
        panic!(
            "none of {} states explains what was seen:\n{}",
            tried.len(),
            seen.told(&begun)
        );
    };
    for no in seen.answers.keys() {
        world.answer(*no);
    }
    world
}

/// What was seen of requests at once.
#[derive(Debug, Default)]
struct Seen {
    answers: BTreeMap<No, Answer>,
    store: BTreeMap<No, Record>,
    /// Whether a touch may find that somebody else is writing the session.
    may_be_busy: bool,
}

impl Seen {
    /// In lines, for whoever has to find out what has gone wrong.
    fn told(&self, begun: &World) -> String {
        let mut lines = vec![format!("at {} by {:?}", begun.now, begun.processes)];
        let stored = |store: &BTreeMap<No, Record>| {
            let lines = store
                .iter()
                .map(|(no, record)| format!("  {no}: {record:?}"));
            lines.collect::<Vec<_>>()
        };
        lines.push("the store had".into());
        lines.extend(stored(&begun.store));
        for (no, answer) in &self.answers {
            let request = &begun.requests[no];
            let ask = &request.ask;
            let Ask {
                policy,
                act,
                process,
                is_shareable,
                ..
            } = ask;
            lines.push(format!("{no} of {:?}: {policy:?} {act:?} in {process} shareable {is_shareable}\n  {answer:?}", request.id));
        }
        lines.push("and has".into());
        lines.extend(stored(&self.store));
        lines.join("\n")
    }

    /// Looks for an order of the steps that are left.
    fn explain(&self, world: &World, tried: &mut HashSet<World>) -> Option<World> {
        let is_open = |no: &&No| world.requests[*no].stage != Stage::Done;
        let mut open = self.answers.keys().filter(is_open).peekable();
        if open.peek().is_none() {
            return (world.store == self.store).then(|| world.clone());
        }
        open.find_map(|no| {
            let mut steps = [false].into_iter().chain(self.may_be_busy.then_some(true));
            steps.find_map(|finds_busy| {
                let mut next = world.clone();
                next.requests.get_mut(no)?.finds_busy = finds_busy;
                next.step(*no);
                next.asked = Asked::default();
                let request = next.requests.get_mut(no)?;
                if finds_busy && std::mem::take(&mut request.finds_busy) {
                    return None; // It has touched nothing.
                }
                if request.stage == Stage::Done {
                    let seen = &self.answers[no];
                    if request.may_send == Some(seen.cookie) {
                        request.answer.cookie = seen.cookie;
                    }
                    if request.answer != *seen {
                        return None;
                    }
                }
                if !tried.insert(next.clone()) {
                    return None;
                }
                self.explain(&next, tried)
            })
        })
    }
}
