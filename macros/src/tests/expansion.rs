//! What a reviewer reads: the generated code of six handlers. `UPDATE_EXPECT=1 cargo test` writes it anew.

// Written by expect-test.
#![allow(clippy::needless_raw_string_hashes)]

use expect_test::{Expect, expect};

fn check(args: &str, item: &str, expected: &Expect) {
    let tokens = super::expand(args, item).to_string();
    let file = syn2::parse_file(&tokens).expect("the expansion is a list of items");
    expected.assert_eq(&prettyplease::unparse(&file));
}

#[test]
fn plain() {
    check(
        r#"interval = "24h""#,
        "/// The front page.
        pub async fn home(refresh: RefreshInfo, user: CurrentUser) -> Html<String> {
            render(refresh, user)
        }",
        &expect![[r#"
            #[doc(hidden)]
            #[allow(non_camel_case_types, missing_debug_implementations)]
            pub struct __SessionRefresh_home;
            #[automatically_derived]
            impl ::session_refresh::RefreshPolicy for __SessionRefresh_home {
                type User = ::session_refresh::FromLayer;
                const POLICY: ::session_refresh::Policy = ::session_refresh::Policy::new()
                    .interval(::session_refresh::__private::Duration::seconds(86400));
            }
            /// The front page.
            pub fn home(
                decided: ::session_refresh::Decided<__SessionRefresh_home, RefreshInfo>,
                argument_1: CurrentUser,
            ) -> impl ::core::future::Future<Output = ::session_refresh::__private::Response> {
                #[allow(clippy::unused_async)]
                async fn home(refresh: RefreshInfo, user: CurrentUser) -> Html<String> {
                    render(refresh, user)
                }
                let (stamp, first) = decided.into_parts();
                stamp.after(home(first, argument_1))
            }
        "#]],
    );
}

#[test]
fn without_arguments() {
    check(
        "",
        "async fn ping() {}",
        &expect![[r#"
            #[doc(hidden)]
            #[allow(non_camel_case_types, missing_debug_implementations)]
            struct __SessionRefresh_ping;
            #[automatically_derived]
            impl ::session_refresh::RefreshPolicy for __SessionRefresh_ping {
                type User = ::session_refresh::FromLayer;
                const POLICY: ::session_refresh::Policy = ::session_refresh::Policy::new();
            }
            fn ping(
                decided: ::session_refresh::Decided<__SessionRefresh_ping, ()>,
            ) -> impl ::core::future::Future<Output = ::session_refresh::__private::Response> {
                #[allow(clippy::unused_async)]
                async fn ping() {}
                let (stamp, ()) = decided.into_parts();
                stamp.after(ping())
            }
        "#]],
    );
}

#[test]
fn generics_and_where_clause() {
    check(
        "user = U, skip_staff",
        "async fn page<'a, U: SessionUser + 'a, const N: usize>(user: U) -> [u8; N]
        where
            U: Clone,
            &'a str: Sized,
        {
            [0; N]
        }",
        &expect![[r#"
            #[doc(hidden)]
            #[allow(non_camel_case_types, missing_debug_implementations)]
            struct __SessionRefresh_page<U: ?::core::marker::Sized, const N: usize>(
                ::core::marker::PhantomData<U>,
            );
            #[automatically_derived]
            impl<U: SessionUser, const N: usize> ::session_refresh::RefreshPolicy
            for __SessionRefresh_page<U, N>
            where
                U: Clone,
                U: 'static,
            {
                type User = U;
                const POLICY: ::session_refresh::Policy = ::session_refresh::Policy::new()
                    .skip_staff(true);
            }
            fn page<'a, U: SessionUser + 'a, const N: usize>(
                decided: ::session_refresh::Decided<__SessionRefresh_page<U, N>, U>,
            ) -> impl ::core::future::Future<Output = ::session_refresh::__private::Response>
            where
                U: Clone,
                &'a str: Sized,
            {
                #[allow(clippy::unused_async)]
                async fn page<'a, U: SessionUser + 'a, const N: usize>(user: U) -> [u8; N]
                where
                    U: Clone,
                    &'a str: Sized,
                {
                    [0; N]
                }
                let (stamp, first) = decided.into_parts();
                stamp.after(page::<U, N>(first))
            }
        "#]],
    );
}

#[test]
fn every_word() {
    check(
        r#"interval = "1h 500ms", skip_staff, skip_superuser = true, skip_unauthenticated = false, passive, skip_prefetch = false,
        skip_paths("/static/", "/media/"), skip_if = requests::is_polling, user = Option<User>, policy = SENSITIVE,
        key = "refreshed_at", crate = prelude::refresh"#,
        "pub(crate) async fn account(user: User) -> Page { Page }",
        &expect![[r##"
            #[doc(hidden)]
            #[allow(non_camel_case_types, missing_debug_implementations)]
            pub(crate) struct __SessionRefresh_account;
            #[automatically_derived]
            impl prelude::refresh::RefreshPolicy for __SessionRefresh_account {
                type User = Option<User>;
                const POLICY: prelude::refresh::Policy = prelude::refresh::__private::named_policy(
                        SENSITIVE,
                    )
                    .interval(prelude::refresh::__private::Duration::new(3600, 500000000))
                    .passive(true)
                    .skip_staff(true)
                    .skip_superuser(true)
                    .skip_unauthenticated(false)
                    .skip_prefetch(false)
                    .skip_paths(&["/static/", "/media/"])
                    .skip_if(requests::is_polling)
                    .key("refreshed_at");
            }
            pub(crate) fn account(
                decided: prelude::refresh::Decided<__SessionRefresh_account, User>,
            ) -> impl ::core::future::Future<Output = prelude::refresh::__private::Response> {
                #[allow(clippy::unused_async)]
                async fn account(user: User) -> Page {
                    Page
                }
                let (stamp, first) = decided.into_parts();
                stamp.after(account(first))
            }
        "##]],
    );
}

#[test]
fn policy_and_computed_interval() {
    check(
        "policy = SENSITIVE, interval = Duration::minutes(MINUTES)",
        "async fn password() {}",
        &expect![[r#"
            #[doc(hidden)]
            #[allow(non_camel_case_types, missing_debug_implementations)]
            struct __SessionRefresh_password;
            #[automatically_derived]
            impl ::session_refresh::RefreshPolicy for __SessionRefresh_password {
                type User = ::session_refresh::FromLayer;
                const POLICY: ::session_refresh::Policy = {
                    const __SESSION_REFRESH: ::session_refresh::Policy = ::session_refresh::__private::named_policy(
                            SENSITIVE,
                        )
                        .interval(Duration::minutes(MINUTES));
                    __SESSION_REFRESH
                };
            }
            fn password(
                decided: ::session_refresh::Decided<__SessionRefresh_password, ()>,
            ) -> impl ::core::future::Future<Output = ::session_refresh::__private::Response> {
                #[allow(clippy::unused_async)]
                async fn password() {}
                let (stamp, ()) = decided.into_parts();
                stamp.after(password())
            }
        "#]],
    );
}

#[test]
fn body_consumed_under_other_attributes() {
    check(
        "policy = policies::SENSITIVE",
        r#"#[doc = "Saves a form."]
        #[expect(clippy::unused_async)]
        #[debug_handler(state = App)]
        fn save(State(app): State<App>, Form(mut form): Form<Edit>) -> impl Future<Output = Result<(), Problem>> {
            async move { app.save(form.take()?) }
        }"#,
        &expect![[r#"
            #[doc(hidden)]
            #[allow(non_camel_case_types, missing_debug_implementations)]
            struct __SessionRefresh_save;
            #[automatically_derived]
            impl ::session_refresh::RefreshPolicy for __SessionRefresh_save {
                type User = ::session_refresh::FromLayer;
                const POLICY: ::session_refresh::Policy = policies::SENSITIVE;
            }
            ///Saves a form.
            #[expect(clippy::unused_async)]
            fn save(
                decided: ::session_refresh::Decided<__SessionRefresh_save, State<App>>,
                argument_1: Form<Edit>,
            ) -> impl ::core::future::Future<Output = ::session_refresh::__private::Response> {
                #[debug_handler(state = App)]
                fn save(
                    State(app): State<App>,
                    Form(mut form): Form<Edit>,
                ) -> impl Future<Output = Result<(), Problem>> {
                    async move { app.save(form.take()?) }
                }
                let (stamp, first) = decided.into_parts();
                stamp.after(save(first, argument_1))
            }
        "#]],
    );
}
