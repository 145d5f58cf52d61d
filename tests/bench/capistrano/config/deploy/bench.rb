JOB["hosts"].each { |name| server name, roles: %w[app] }
