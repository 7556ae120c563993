//! One thing after the other, while some requests wait: the application does what the model does.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;
use session_refresh_tests::backends::Backend;

use crate::{
    machine::{RUNTIME, on_every_store, run},
    system::System,
    world::{
        Act, Answer, Ask, Asked, Fault, Hours, Layer, MADE_UP, No, Policy, Process, Role, Said,
        Step, Stop, World,
    },
};

/// The model, and the answer that the last step has brought.
#[derive(Clone, Debug)]
pub struct Model {
    pub world: World,
    /// The cookie that came with the request, if the last step was one.
    came_with: Option<No>,
    answer: Option<(No, Answer)>,
}

// By accident no two times are the same: what counts from the last activity is a multiple of four hours, a fixed end is one
// more, and limits are two and three more.
pub fn fours(range: std::ops::Range<Hours>, more: Hours) -> impl Strategy<Value = Hours> + Clone {
    range.prop_map(move |fours| fours * 4 + more)
}

fn layer() -> impl Strategy<Value = Layer> {
    (fours(12..110, 0), prop::option::of(fours(6..240, 2)))
        .prop_map(|(idle, max_lifetime)| Layer { idle, max_lifetime })
}

pub fn process() -> impl Strategy<Value = Process> {
    let skew = prop_oneof![2 => Just(0), 1 => fours(1..4, 0)];
    (skew, layer()).prop_map(|(skew, layer)| Process {
        skew,
        layer,
        failures: 0,
    })
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        2 => Just(Said::Nothing),
        1 => Just(Said::Layers),
        // Never a layer's own: that could not be told from nothing said.
        2 => fours(112..300, 0).prop_map(Said::Idle),
        2 => fours(0..360, 1).prop_map(Said::Fixed),
        1 => Just(Said::Browser),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let role =
        prop_oneof![3 => Just(Role::User), 1 => Just(Role::Staff), 1 => Just(Role::Superuser)];
    prop_oneof![
        6 => Just(Act::Nothing),
        2 => Just(Act::Read),
        4 => Just(Act::Write),
        1 => Just(Act::Undo),
        1 => Just(Act::Save),
        1 => Just(Act::Fail),
        1 => said().prop_map(Act::SetExpiry),
        5 => (role, said()).prop_map(|(role, said)| Act::LogIn(role, said)),
        2 => Just(Act::LogOut),
        1 => Just(Act::CycleId),
        1 => Just(Act::Clear),
        1 => Just(Act::FlushAnew),
        1 => Just(Act::Restart),
        1 => prop::option::of(fours(6..240, 3)).prop_map(Act::OwnLimit),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        2 => Just(Policy::Unannotated),
        5 => Just(Policy::Active),
        1 => Just(Policy::Passive),
        1 => Just(Policy::Prefetch),
        1 => Just(Policy::SkipPath),
        1 => Just(Policy::SkipIf),
        2 => Just(Policy::SkipUnauthenticated),
        1 => Just(Policy::SkipStaff),
        1 => Just(Policy::SkipSuperuser),
    ]
}

pub fn ask() -> impl Strategy<Value = Ask> {
    let stop = prop_oneof![
        4 => Just(None),
        1 => Just(Some(Stop::LookUp)),
        1 => Just(Some(Stop::Handler)),
    ];
    let fault = prop_oneof![
        10 => Just(None),
        1 => Just(Some(Fault::LoadsFail)),
        2 => Just(Some(Fault::TouchIsLate)),
    ];
    let rarely = || prop::bool::weighted(0.15);
    let parts = (
        0..2_usize,
        0..2_usize,
        policy(),
        act(),
        stop,
        fault,
        rarely(),
        rarely(),
    );
    parts.prop_map(
        |(client, process, policy, act, stop, fault, is_shareable, is_lost)| Ask {
            client,
            process,
            policy,
            act,
            stop,
            fault,
            is_shareable,
            is_lost,
        },
    )
}

impl Ask {
    /// Whether it is one that can be had.
    fn is_possible(&self, world: &World) -> bool {
        let looks_user_up = matches!(
            self.policy,
            Policy::SkipUnauthenticated | Policy::SkipStaff | Policy::SkipSuperuser
        );
        let stops = self.stop.is_none() || world.requests.len() < 3;
        let fails = match self.fault {
            None => true,
            // What others do when a load fails is tower-sessions' matter.
            Some(Fault::LoadsFail) => {
                matches!(
                    self.act,
                    Act::Nothing | Act::Read | Act::Write | Act::LogOut
                )
            }
            // After three failures touches are paused, for a time that no test's clock measures.
            Some(Fault::TouchIsLate) => {
                self.stop.is_none() && world.processes[self.process].failures < 2
            }
        };
        stops && fails && (looks_user_up || self.stop != Some(Stop::LookUp))
    }
}

impl Model {
    pub fn new(processes: [Process; 2]) -> Self {
        Self {
            world: World::new(processes),
            came_with: None,
            answer: None,
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        (process(), process())
            .prop_map(|(first, second)| Self::new([first, second]))
            .boxed()
    }

    fn transitions(Self { world, .. }: &Self) -> BoxedStrategy<Step> {
        let mut steps = vec![
            (20, ask().prop_map(Step::Ask).boxed()),
            (6, fours(1..30, 0).prop_map(Step::Pass).boxed()),
            (1, Just(Step::Sweep).boxed()),
            (
                1,
                (0..2_usize, layer())
                    .prop_map(|(process, layer)| Step::Deploy(process, layer))
                    .boxed(),
            ),
        ];
        let waiting: Vec<_> = world.requests.keys().copied().collect();
        if !waiting.is_empty() {
            let waiting = prop::sample::select(waiting);
            steps.push((8, waiting.clone().prop_map(Step::GoOn).boxed()));
            steps.push((1, waiting.prop_map(Step::GiveUp).boxed()));
        }
        let stored: Vec<_> = world.store.keys().copied().collect();
        let mut cookies = vec![None, Some(MADE_UP)];
        if !stored.is_empty() {
            cookies.extend(stored.iter().copied().map(Some));
            // Best one that somebody is at work on.
            let in_use = world.requests.values().filter_map(|request| request.id);
            let in_use: Vec<_> = in_use.filter(|no| stored.contains(no)).collect();
            if !in_use.is_empty() {
                steps.push((3, prop::sample::select(in_use).prop_map(Step::End).boxed()));
            }
            steps.push((1, prop::sample::select(stored).prop_map(Step::End).boxed()));
        }
        let cookie = (0..2_usize, prop::sample::select(cookies));
        steps.push((
            1,
            cookie
                .prop_map(|(client, cookie)| Step::SetCookie(client, cookie))
                .boxed(),
        ));
        if !world.late.is_empty() {
            steps.push((3, (0..world.late.len()).prop_map(Step::Land).boxed()));
        }
        prop::strategy::Union::new_weighted(steps).boxed()
    }

    fn preconditions(Self { world, .. }: &Self, step: &Step) -> bool {
        match step {
            Step::Ask(ask) => ask.is_possible(world),
            Step::GoOn(no) | Step::GiveUp(no) => world.requests.contains_key(no),
            Step::End(no) => world.store.contains_key(no),
            Step::SetCookie(_, Some(no)) => *no == MADE_UP || world.store.contains_key(no),
            Step::Land(late) => *late < world.late.len(),
            Step::Deploy(process, _) => world
                .requests
                .values()
                .all(|request| request.ask.process != *process),
            Step::Pass(_) | Step::Sweep | Step::SetCookie(_, None) => true,
        }
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        if let Step::Ask(ask) = step {
            model.came_with = model.world.clients[ask.client];
        }
        model.answer = model.world.perform(step);
        model
    }
}

async fn perform<B: Backend>(system: &mut System<B>, model: &Model, step: &Step) {
    let Model {
        world,
        came_with,
        answer,
    } = model;
    match *step {
        Step::Ask(ref ask) => {
            let no = world.next - 1;
            system.send(no, ask, *came_with);
            if answer.is_none() {
                system.stopped(no).await;
            }
        }
        Step::GoOn(no) => system.go_on(no),
        Step::GiveUp(no) => system.give_up(no).await,
        Step::Pass(hours) => system.pass(hours),
        Step::End(no) => system.end(no).await,
        Step::Sweep => system.sweep().await,
        Step::Deploy(process, ref layer) => system.deploy(process, layer).await,
        Step::Land(late) => system.land(late).await,
        Step::SetCookie(..) => {}
    }
    if let Some((no, expected)) = answer {
        let seen = system.answered(*no).await;
        let answer = system.read(*no, &seen);
        assert_eq!(
            answer, *expected,
            "{step:?} is answered by {seen:?}; model: {world:#?}"
        );
    }
    let (asked, expected) = (system.asked(), world.asked);
    let least = Asked {
        looks: 0,
        ..expected
    };
    let most = Asked {
        loads: expected.loads + expected.looks,
        ..least
    };
    assert!(
        asked == least || asked == most,
        "{step:?} asks {asked:?}, not {expected:?}"
    );
    assert_eq!(
        system.stored().await,
        world.store,
        "the store after {step:?}"
    );
}

on_every_store!(follows);

fn follows<B: Backend>() {
    let sequences = Model::sequential_strategy(1..40);
    run::<B, _>(&sequences, |backend, (model, steps, seen)| {
        let steps = steps.into_iter().inspect(|_| {
            if let Some(seen) = &seen {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        });
        RUNTIME.block_on(follow_all(backend, model, steps));
    });
}

pub async fn follow_all<B: Backend>(
    backend: B,
    mut model: Model,
    steps: impl IntoIterator<Item = Step>,
) {
    let mut system = System::start(backend, &model.world.processes).await;
    for step in steps {
        model = follow(&mut system, model, &step).await;
    }
}

/// Has the application do what the model does.
pub async fn follow<B: Backend>(system: &mut System<B>, model: Model, step: &Step) -> Model {
    if !Model::preconditions(&model, step) {
        return model;
    }
    let model = Model::apply(model, step);
    perform(system, &model, step).await;
    model
}
