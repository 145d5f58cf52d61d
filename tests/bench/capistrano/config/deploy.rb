# The workloads as one would write them for Capistrano; what they are about is in JOB.
require "erb"
require "json"

JOB = JSON.parse(File.read(ENV.fetch("BENCH_JOB")))
set :format, :airbrussh
set :format_options, log_file: File.join(JOB["folder"], "cap.log"), color: false
set :ssh_options, {
  user: JOB["user"], port: JOB["port"], keys: [JOB["key"]], keys_only: true, config: false,
  auth_methods: %w[publickey], use_agent: false, user_known_hosts_file: JOB["known_hosts"],
  global_known_hosts_file: "/dev/null"
}

task :w1 do
  on(roles(:app)) { |host| puts "#{host.hostname} #{capture(:uname, '-a')}" }
end

task :w2 do
  page = ERB.new(<<~TEXT, trim_mode: "-")
    # rendered for <%= name %> (index <%= index %>)
    listen = <%= 8000 + index %>
    <%- 165.times do |i| -%>
    [worker-<%= format("%03d", i) %>]  host=<%= name %>  port=<%= 8000 + index + i %>  weight=<%= (i * 7 + index) % 100 %>  tag=w<%= i %>x
    <%- end -%>
  TEXT
  release = JOB["release"]
  on roles(:app) do |host|
    base = "#{JOB['root']}/#{host.hostname}"
    folder = "#{base}/releases/#{release}"
    text = page.result_with_hash(name: host.hostname, index: JOB["hosts"].index(host.hostname))
    execute :mkdir, "-p", folder
    upload! StringIO.new(text), "#{folder}/app.conf"
    upload! StringIO.new("#{release}\n"), "#{folder}/REVISION"
    execute :test, "-d", folder
    execute :cat, "#{folder}/REVISION"
    execute :date, "-u"
    execute :ln, "-sfn", "#{base}/shared", "#{folder}/shared"
    execute :wc, "-c", "#{folder}/app.conf"
    execute :ln, "-sfn", folder, "#{base}/current"
    execute :readlink, "#{base}/current"
    execute :uname, "-r"
    execute "ls -1dt #{base}/releases/* | tail -n +6 | xargs -r rm -rf"
  end
end
