"""How the tests of `scaling estimate` ask it, and how they check a refusal."""

import json

from scaling.cli.main import main

PRESET = ["estimate", "--preset", "sora"]


def ask(capsys, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def assert_one_line(capsys, arguments, *fragments):
    assert main(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    for fragment in fragments:
        assert str(fragment) in err
