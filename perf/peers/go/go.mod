module toolring/perf/peers

go 1.22
