"""A valid project that uses most of the syntax, small enough to be read quickly."""

from __future__ import annotations

from textwrap import dedent

FILES = {
    "inventories/common/stage.yml": """\
        default_stage: dev
        vars: &shared
          region: eu
          rack: none
          weight: 1
          ports: [80, 443]
          deep: {a: {b: [1, two, 3.5, true, null]}}
        environment: {LANG: C.UTF-8}
    """,
    "inventories/common/apps/blog.yml": """\
        roles: [web]
        vars: {deploy_to: "~/apps/blog", keep: 3}
    """,
    "inventories/dev/stage.yml": """\
        desc: Where things are tried out
        connect: {transport: sandbox, timeout: 10s, keepalive: 15s, retries: 2}
        vars:
          domain: "{{ region }}.example.net"
          motd: |
            Welcome to {{ host.name }}
            {% for port in ports %}{{ port }}{% if not loop.last %}, {% endif %}{% endfor %}
          token: !secret {env: DEPLOY_TOKEN}
          key: !secret {file: key.pem}
        defaults:
          file: {mode: "0644"}
        regions: {eu: [web], us: [db]}
        cluster:
          scheduler: db
          workers: {eu: [web1], us: db}
          processes: 2
          address: "::1"
          listen: 10.0.0.5
          folder: ~/cluster
          pip_options: [--no-index, --find-links=/srv/wheels]
    """,
    "inventories/dev/key.pem": "none\n",
    "inventories/dev/hosts/web1.yml": """\
        address: 10.0.0.5
        connect: {user: deploy, port: 2222, identity: ~/.ssh/id_ed25519, jump: "ops@bastion:22"}
        roles: [web]
        vars: {rack: a1, weight: 0.5, "tags_of": {k: &anchor [x, y]}, again: *anchor}
    """,
    "inventories/dev/hosts/db.yml": "vars: {size: 12}\n",
    "inventories/dev/roles/web.yml": """\
        hosts: [web1, "web[2:4].example.net", "u@[::1]:2222"]
        primary: web1
        vars: {workers: 4, greeting: "it's {{ domain | upper }}"}
    """,
    "inventories/dev/roles/every.yml": "roles: [web]\n",
    "inventories/dev/roles/db.yml": "- db\n",
    "inventories/dev/apps/blog.yml": """\
        vars: {branch: main}
        hosts: {web1: {vars: {keep: 5}}}
    """,
    "inventories/prod/hosts.yml": "p1: {address: 10.1.0.1}\np2:\n",
    "inventories/prod/roles.yml": "web: [p1, p2]\n",
    "inventories/prod/stage.yml": "protected: true\nconnect: {host_keys: accept-new}\n",
    "tasks/t.yml": """\
        desc: Most of the language
        roles: [web]
        params:
          release: {type: str, default: "{{ run.release }}", help: A name}
          count: {type: int, default: 3, choices: [1, 2, 3]}
          mode: {type: mode, default: "0640"}
          where: {type: path, default: ~/x}
        vars: {local: "{{ release }}-{{ count }}"}
        steps:
          - run: uname -a
            readonly: true
            register: before
            timeout: 90s
          - name: Write {{ local }}
            run: |
              set -u
              for i in {{ ports }}; do
                printf '%s\\n' "{{ greeting }}" '{{ rack }}' {{ deep.a.b[1] }} >> ~/out
              done
              cat <<EOF
              {{ motd }} $(echo {{ domain }})
              EOF
              test $(({{ workers }} + 1)) -gt 0
            when: before.exit_status == 0 and not before.changed
            environment: {A: "{{ rack }}", B: 1}
            creates: ~/done
            notify: restart
          - template: {src: app.conf.j2, path: "{{ where }}/app.conf", mode: "{{ mode }}"}
            become: true
            notify: [restart]
          - copy: {path: ~/motd, content: "{{ motd }}", validate: "test -s %s"}
          - line: {path: ~/f, line: "x={{ weight }}"}
          - loop: "{{ ports }}"
            run: echo {{ item }}
            register: all
          - block:
              - run: "false"
                retries: 2
                delay: 0.5s
                until: result.exit_status == 0
            rescue:
              - fail: "it broke on {{ host.name }}"
            always:
              - set: {done: true, list: "{{ ports | map('string') | join(',') }}"}
          - assert: ports | length == 2
            tags: [check, "t1"]
          - wait: 1s
          - called: {word: "{{ token }}"}
            delegate_to: db
        handlers:
          restart:
            - run: systemctl restart x
        rollback:
          - run: rm -f -- {{ where }}
    """,
    "tasks/called.yml": """\
        params: {word: {required: true, secret: true}}
        steps: [{run: "cat", stdin: "{{ word }}"}, {module: {key: "a=b"}}]
    """,
    "tasks/module.yml": """\
        desc: A module of the project's own
        params:
          key: {type: str, required: true}
        probe: |
          state key "$(cat -- ~/key 2>/dev/null || :)"
        want: {key: "{{ key }}"}
        fix: |
          printf %s {{ key }} > ~/key
    """,
    "tasks/all.yml": """\
        desc: A playbook
        tasks:
          - t: {release: "1"}
            when: region == 'eu'
          - name: rolling
            batch: [1, 50%]
            max_failures: 1
            tasks: [called: {word: abcd}]
          - called: {word: efgh}
            once: true
          - commit
    """,
    "tasks/hook.yml": dedent("""\
        before: [called]
        roles: [db]
        steps: [{run: 'true'}]
        """),
    "tasks/app.conf.j2": """\
        {# comment #}
        {%- macro block(name) %}[{{ name }}]{% endmacro %}
        {{ block(host.name) }}
        {% for name in roles.web | sort -%}
        server {{ name }}:{{ ports[loop.index0 % 2] }} weight={{ weight }};
        {% endfor %}
        {% set ns = namespace(n=0) %}{% for p in ports %}{% set ns.n = ns.n + p %}{% endfor %}
        total {{ "%05d" % ns.n }} {{ '{:>6}'.format(ns.n) }} {{ deep | to_json }}
    """,
    "ssh_config": """\
        Host web* !web9
          User deploy
          ProxyJump bastion
          ConnectTimeout 1m30s
        Match host db exec "true"
          IdentityFile "~/.ssh/%h key"
        Include other_config
    """,
    "other_config": "Host *\n  ServerAliveInterval 15\n  SetEnv A=b\n",
    "extra.yml": "branch: other\nports: [8080, 8443]\n",
    "limit.txt": "# these\nweb:&every\n!web[0:1]\nweb2.example.net\n",
}

CALLS = (
    ("lint",),
    ("-s", "dev", "plan", "all", "--app", "blog"),
    ("-s", "dev", "plan", "t", "count=2", "--json", "-e", "@extra.yml"),
    ("-s", "dev", "hosts", "-l", "@limit.txt"),
    ("-s", "dev", "vars", "web1", "--origin"),
    ("-s", "dev", "vars", "web1", "-e", "@extra.yml", "--json"),
    ("tasks", "--tree"),
    ("doc", "module"),
    ("stages",),
    ("-s", "dev", "run", "all", "--list-hosts", "--app", "all"),
)
"""Commands that read the files and contact no host."""
