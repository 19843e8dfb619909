//! Texts that are certainly not a secret are refused by an error that names them, and harmless
//! characters around a secret are dropped.

use openai_webhooks::{Secret, SecretError, Webhooks};

const SECRET: &str = "whsec_KCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/QEFCQ0RFRkc=";

#[test]
fn each_mistaken_secret_is_refused_with_its_kind_and_never_repeated() {
    use SecretError as E;
    let quoted = ["\"", "'", "“", "”", "‘", "’", "«", "»", "„"];
    let mut cases: Vec<(String, E)> = quoted
        .iter()
        .flat_map(|quote| [format!("{quote}{SECRET}"), format!("{SECRET}{quote}")])
        .chain(
            quoted
                .iter()
                .map(|quote| format!("{quote}a raw key{quote}")),
        )
        .chain(["`a raw key`".to_owned()])
        .map(|text| (text, E::Quoted))
        .collect();
    let inside = [
        "Bearer SECRET",
        "bearer  SECRET",
        "OPENAI_WEBHOOK_SECRET=SECRET",
        "OPENAI_WEBHOOK_SECRET=\"SECRET\"",
        "export OPENAI_WEBHOOK_SECRET='SECRET'",
        "openai_webhook_secret: SECRET",
        "{\"secret\": \"SECRET\"}",
        "A=1\nOPENAI_WEBHOOK_SECRET=SECRET\n",
        "# the secret\nSECRET",
        "secret SECRET",
        "`SECRET`",
        "&quot;SECRET&quot;",
        "<SECRET>",
        "$SECRET",
    ];
    cases.extend(inside.map(|text| (text.replace("SECRET", SECRET), E::PrefixInside)));
    let base64 = &SECRET["whsec_".len()..];
    for (text, error) in [
        (format!("whsec-{base64}"), E::PrefixSpelling),
        (format!("whsec {base64}"), E::PrefixSpelling),
        (format!("whsec:{base64}"), E::PrefixSpelling),
        (format!("WHSEC-{base64}"), E::PrefixSpelling),
        (format!("whsec\\_{base64}"), E::PrefixSpelling),
        (format!("whsec%5F{base64}"), E::PrefixSpelling),
        (format!("hsec_{base64}"), E::PrefixSpelling),
        ("whsec".to_owned(), E::PrefixSpelling),
        (format!("wsec_{base64}"), E::PrefixSpelling),
        (format!("whesc_{base64}"), E::PrefixSpelling),
        (format!("hwsec_{base64}"), E::PrefixSpelling),
        (format!("whhsec_{base64}"), E::PrefixSpelling),
        (format!("wh5ec-{base64}"), E::PrefixSpelling),
        (format!("Wsec_{base64}"), E::PrefixSpelling),
        (format!("ｗｈｓｅｃ＿{base64}"), E::PrefixSpelling),
        (format!("whs\u{435}c_{base64}"), E::PrefixSpelling),
        (
            format!("wh\u{455}\u{435}\u{441}_{base64}"),
            E::PrefixSpelling,
        ),
        (format!("whsec\u{2013}{base64}"), E::PrefixSpelling),
        (format!("whsec_{SECRET}"), E::PrefixTwice),
        (format!("whpk_{base64}"), E::AsymmetricKey),
        (format!("whsk_{base64}"), E::AsymmetricKey),
        (format!("{SECRET},{SECRET}"), E::Several),
        (format!("{SECRET}\n{SECRET}"), E::Several),
        (format!("v1,{SECRET}"), E::SignaturePrefix),
        (format!("WHSEC_{base64}"), E::PrefixCase),
        (
            format!("whsec_{}\u{200b}{}", &base64[..9], &base64[9..]),
            E::Invisible,
        ),
        (
            format!("whsec_{}\u{a0}{}", &base64[..9], &base64[9..]),
            E::InnerBlank,
        ),
    ] {
        cases.push((text, error));
    }
    for (texts, error) in [
        (
            &[
                "sk-proj-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "sk-admin-abc",
                "sk-svcacct-abc",
                "sk-abc",
                "sess-0123456789abcdef0123456789abcdef",
                "ek_0123456789abcdef0123456789abcdef",
                "ghp_0123456789abcdef0123456789abcdef",
                "AKIAIOSFODNN7EXAMPLE",
                "rk_live_0123456789abcdef",
            ][..],
            E::ApiKey,
        ),
        (&["whe_0123456789abcdef0123456789abcdef"], E::EndpointId),
        (
            &[
                "wh_685342e6c53c8190a1be43f081506c52",
                "evt_685343a1381c819085d44c35",
                "proj_abc123",
                "org-abc123",
                "file-0123456789abcdef0123456789",
                "asst_0123456789abcdef0123456789",
                "user-0123456789abcdef0123456789",
            ],
            E::OtherId,
        ),
        (
            &[
                "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n",
                "ssh-ed25519 AAAAC3Nza root@host",
            ],
            E::AsymmetricKey,
        ),
        (
            &[
                "Bearer abcdefghijklmnop",
                "Authorization: Bearer abc",
                "Basic dXNlcjpwYXNz",
            ],
            E::Authorization,
        ),
        (
            &["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N"],
            E::WebToken,
        ),
        (
            &[
                "${OPENAI_WEBHOOK_SECRET}",
                "$OPENAI_WEBHOOK_SECRET",
                "$(cat secret)",
                "%OPENAI_WEBHOOK_SECRET%",
                "{{ .Values.secret }}",
                "${{ secrets.OPENAI_WEBHOOK_SECRET }}",
                "$env:OPENAI_WEBHOOK_SECRET",
                "process.env.OPENAI_WEBHOOK_SECRET",
                "$openai_webhook_secret",
                "os.environ['OPENAI_WEBHOOK_SECRET']",
                "OPENAI_WEBHOOK_SECRET",
                "whsec_${KEY}",
                "__SECRET__",
                "@SECRET@",
                "{SECRET}",
                "#{secret}",
                "$SECRET",
                "$webhookSecret",
                "!OPENAI_WEBHOOK_SECRET!",
                "~WEBHOOK_TOKEN~",
                "##OPENAI_WEBHOOK_SECRET##",
                "%env(OPENAI_WEBHOOK_SECRET)%",
                "$[[ inputs.secret ]]",
                "OPENAI_API_KEY",
                "Deno.env.get('OPENAI_WEBHOOK_SECRET')",
                "var.openai_webhook_secret",
                "!Ref WebhookSecret",
                "whsec_$WEBHOOK_KEY_SECRET",
            ],
            E::NotExpanded,
        ),
        (
            &[
                "OPENAI_WEBHOOK_SECRET=",
                "OPENAI_WEBHOOK_SECRET=abcdefgh",
                "export WEBHOOK_SECRET=abcdefgh",
                "webhook-secret: abcdefgh",
                "{\"key\": \"abcdefghijkl\"}",
                "secret = \"abcdefgh",
                "ENV OPENAI_WEBHOOK_SECRET abcdefgh",
                "setx OPENAI_WEBHOOK_SECRET abcdefgh",
            ],
            E::Assignment,
        ),
        (
            &[
                "/run/secrets/openai",
                "./secret.txt",
                "~/.openai/secret",
                "https://example.com/webhooks/production",
                "op://vault/openai/secret",
                "arn:aws:secretsmanager:us-east-1:123456789012:secret:openai",
                "file:secret.txt",
                "D:\\secrets\\openai",
                "\\\\server\\share\\openai",
                "$HOME/.openai/secret",
                "/srv/app/openai-webhook",
                "secrets/openai.txt",
                "webhook-secret.txt",
                "@Microsoft.KeyVault(VaultName=v;SecretName=s)",
            ],
            E::Place,
        ),
        (
            &[
                "undefined",
                "null",
                "NULL",
                "None",
                "nil",
                "(null)",
                "<webhook secret>",
                "<your-secret>",
                "your-webhook-secret",
                "YOUR WEBHOOK SECRET HERE",
                "changeme",
                "change-me",
                "replace_me",
                "xxxxxxxx",
                "[object Object]",
                "TODO: secret",
                "whsec_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                "whsec_your-secret-here",
                "whsec_<your secret>",
                "whsec_replace_me",
                "whsec_undefined",
                "whsec_null",
                "not set",
                "[]",
                "Promise { <pending> }",
                "System.Security.SecureString",
            ],
            E::Placeholder,
        ),
        (
            &[
                "whsec_…QFGQ0RFRkc=",
                "whsec_****RkZHRkc=",
                "whsec_KCkq...RkZHRkc=",
                "whsec_•••••",
                "abcd***efgh",
                "abcd…",
                "--------",
                "∙∙∙∙∙∙∙∙",
            ],
            E::Masked,
        ),
        (
            &[
                "d2hzZWNfS0NrcUt5d3RMaTh3TVRJek5EVTJOemc1T2pzOFBUND0=",
                "77687365635f4b436b714b7977744c693877",
                "T1BFTkFJPXdoc2VjX0tDa3FLeXd0TGk4d01USXo=",
                "whsec_d2hzZWNfS0NrcUt5d3RMaTh3TVRJek5EVTJOemc1",
                "dwBoAHMAZQBjAF8ASwBDAGsAcQBLAHkA",
            ],
            E::EncodedTwice,
        ),
        (
            &[
                "ENC[AES256_GCM,data:abcdefgh,iv:aaaaaaaa]",
                "{cipher}abcdefgh",
                "$ANSIBLE_VAULT;1.1;AES256\n3132",
                "vault:v1:abcdefgh",
            ],
            E::Encrypted,
        ),
        (
            &[
                "bash: op: command not found",
                "cat: /run/secrets/x: No such file or directory",
                "An error occurred (ResourceNotFoundException) when calling the GetSecretValue operation",
                "error: unable to read the secret",
            ],
            E::Message,
        ),
        (&["b'a raw key'", "b\"a raw key\""], E::Quoted),
        (
            &["one\ntwo", "one\r\ntwo\r\n", "one\u{2028}two"],
            E::SeveralLines,
        ),
        (
            &["raw\u{200b}key", "raw\0key", "raw\u{202e}key"],
            E::Invisible,
        ),
        (&["", " ", "\u{feff}", "\u{a0}\r\n", "whsec_"], E::Empty),
    ] {
        cases.extend(texts.iter().map(|text| ((*text).to_owned(), error)));
    }
    for (text, expected) in cases {
        for text in [
            text.clone(),
            format!("\u{feff}{text}\r\n"),
            format!(" {text}\u{3000}"),
        ] {
            let error = Secret::parse(&text).expect_err(&text);
            assert_eq!(error, expected, "{text:?}");
            assert_eq!(Webhooks::new(&text).unwrap_err(), expected);
            match Secret::parse_list(&text) {
                Ok(secrets) => assert!(expected == SecretError::Several && secrets.len() == 2),
                Err(error) => assert_eq!(error, expected, "{text:?}"),
            }
            for piece in [&base64[..12], "abcdefgh", "aaaaaaaa"] {
                assert!(!format!("{error} {error:?}").contains(piece), "{error}");
            }
        }
    }
}

#[test]
fn blanks_and_invisible_characters_around_a_secret_are_dropped() {
    let around = [
        " ",
        "\t",
        "\n",
        "\r\n",
        "\u{feff}",
        "\u{a0}",
        "\u{85}",
        "\u{2003}",
        "\u{3000}",
        "\u{200b}",
        "\u{200e}",
        "\u{2060}",
        "\0",
        "\u{feff} \r\n\u{a0}",
    ];
    for secret in [SECRET, "a raw key"] {
        let plain = Webhooks::new(secret).unwrap();
        let signed = plain.sign("body", "wh_1", 1).unwrap();
        for blanks in around {
            for text in [
                format!("{blanks}{secret}"),
                format!("{secret}{blanks}"),
                format!("{blanks}{secret}{blanks}"),
            ] {
                let webhooks = Webhooks::new(&text).unwrap_or_else(|_| panic!("{text:?}"));
                assert_eq!(
                    webhooks.sign("body", "wh_1", 1).unwrap(),
                    signed,
                    "{text:?}"
                );
            }
        }
    }
}

/// As in the official SDKs, because any of these may be an agreed key.
#[test]
fn raw_text_that_may_be_a_key_is_accepted_as_a_key() {
    for text in [
        &SECRET["whsec_".len()..],
        "/KCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/QEFCQ0RFRkc=",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567==",
        "0123456789abcdef0123456789abcdef",
        "550e8400-e29b-41d4-a716-446655440000",
        "correct horse battery staple",
        "not base64 – but fine",
        "p$ssw0rd{x}<y>%z%",
        "aB3${x9!q",
        "aB3{{x9!q}",
        "q${9}z",
        "$2b$12$abcdefghijklmnop",
        "key=with=equals",
        "a:b:c",
        "x",
        "test",
        "my_own_signing_key",
        "'Va^*1L=i9|bz4usy_S1bpxlDx5(+1*",
        "f$Qxms|A?)$zh;pXN,9Ji/4I:jYn?K}\"",
        "Sk-KQ_HgLRX3uKJofDfM-EsNEF9OjBFal_GYBWtNy1o",
        "Wh_TsuggT_-RGgbaWqzRrcc9N5en-4lEb90peD-raKT",
        "ZNHWmCt+4Q2x8gRnAMnrdT1NNH8j8MeyourEIuKZp5g=",
        "pe6vtgq5ywgrunmetcubszytodojgkhb",
        "insertcoin-timeless-melody-0123456789",
        "token abc def",
        "Basic instinct is a film of 1992",
        "west_wind_blows_over_the_hills",
        "w1sec_of_silence",
        "b'",
        "file-cabinet",
        "user-defined-passphrase",
        "ek_short",
        "AKIA",
        "/A/B",
        "$ecret",
        "org-wide-shared-passphrase",
        "batch_of_cookies_are_tasty_today",
        "скрет",
        "秘密の鍵",
        "a passphrase with a ❤\u{fe0f} at its end ❤\u{fe0f}",
    ] {
        let bytes = Secret::parse(text).map(|secret| secret.key_bytes());
        assert_eq!(bytes, Ok(text.len()), "{text}");
    }
}

#[test]
fn a_list_is_of_secrets_with_their_prefix_and_divided_by_blanks_or_commas() {
    let other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    for list in [
        format!("{SECRET},{other}"),
        format!("{SECRET}, {other}"),
        format!("{SECRET} {other}\n"),
        format!("\u{feff}{SECRET}\r\n{other}\r\n"),
        format!(",{SECRET},,\t{other},"),
    ] {
        let secrets = Secret::parse_list(&list).unwrap();
        assert_eq!(secrets.len(), 2, "{list:?}");
        let webhooks: Webhooks = secrets.iter().collect();
        for (index, secret) in [SECRET, other].into_iter().enumerate() {
            let headers = Webhooks::new(secret)
                .unwrap()
                .sign("body", "wh_1", 1)
                .unwrap();
            let verified = webhooks.verify_signature_at("body", &headers, 1).unwrap();
            assert_eq!(verified.secret_index(), index);
        }
    }
    assert_eq!(Secret::parse_list(&format!("{SECRET},")).unwrap().len(), 1);
    assert_eq!(Secret::parse_list("raw, with a comma").unwrap().len(), 1);
    for (list, error) in [
        (format!("{SECRET},whsec_"), SecretError::Empty),
        (
            format!("{SECRET},whsec_QUJD"),
            SecretError::TooShort { bytes: 3 },
        ),
        (format!("{SECRET} sk-abc"), SecretError::InnerBlank),
        (format!("raw,{SECRET}"), SecretError::PrefixInside),
    ] {
        assert_eq!(Secret::parse_list(&list).map(drop), Err(error), "{list:?}");
    }
}

#[test]
fn webhooks_take_many_secrets_and_without_any_accept_nothing() {
    let texts = [
        SECRET,
        "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
        "whsec_FxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA",
    ];
    let secrets = || texts.into_iter().map(|text| Secret::parse(text).unwrap());
    let all: Webhooks = secrets().collect();
    let mut extended = Webhooks::new(SECRET).unwrap();
    extended.extend(secrets().skip(1));
    let chained = secrets()
        .skip(1)
        .fold(Webhooks::new(SECRET).unwrap(), |all, secret| {
            all.and(&secret)
        });
    let signed = all.sign("body", "wh_1", 1).unwrap();
    assert_eq!(signed.signature.split(' ').count(), 3);
    assert_eq!(extended.sign("body", "wh_1", 1).unwrap(), signed);
    assert_eq!(chained.sign("body", "wh_1", 1).unwrap(), signed);
    let none: Webhooks = std::iter::empty::<Secret>().collect();
    assert!(none.verify_signature_at("body", &signed, 1).is_err());
}
