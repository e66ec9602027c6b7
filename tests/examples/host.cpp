/*
 * host.cpp: a host in C++17. The interface is C; some small classes give it what C++ is used to:
 * owners that close what they opened, exceptions for errors, functions that remember something as
 * tools, and batches to loop over.
 *
 * What to copy:
 *  - no exception may leave a tool: `trampoline` turns it into a failed call that says why;
 *  - an awaiting tool may continue on another thread after tr_sleep and its like. The C++ runtime
 *    keeps the exceptions being handled per thread, so never await inside a catch block;
 *  - destructors do not throw: the close that can fail is a function of its own, and called.
 *
 *   c++ -std=c++17 host.cpp -o host $(pkg-config --cflags --libs toolring) && ./host
 *
 * Exit status: 0 if every call got the expected answer.
 */
#include <exception>
#include <forward_list>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include <toolring.h>

namespace
{

struct Error : std::runtime_error {
    explicit Error(int code) : std::runtime_error(tr_error_message(code))
    {
    }
};

int check(int status)
{
    if (status < 0) {
        throw Error(status);
    }
    return status;
}

std::string_view text_of(tr_bytes bytes)
{
    return {static_cast<const char *>(bytes.data), bytes.size};
}

tr_bytes bytes_of(std::string_view text)
{
    return {text.data(), text.size()};
}

/* What a tool's function gets: a call to read from and to wait in. */
class Call
{
  public:
    explicit Call(tr_call *call) : call_(call)
    {
    }
    std::string_view input() const
    {
        return text_of(tr_call_input(call_));
    }
    void sleep(uint64_t duration_ns)
    {
        check(tr_sleep(call_, duration_ns));
    }

  private:
    tr_call *call_;
};

using Function = std::function<std::string(Call &)>;

int trampoline(tr_call *call, void *context) noexcept
{
    int status = 0;
    std::string result;
    try {
        Call wrapped(call);
        result = (*static_cast<Function *>(context))(wrapped);
    } catch (const std::exception &exception) {
        status = TR_ETOOL;
        result = exception.what();
    }
    int error = tr_result_copy(call, result.data(), result.size());
    return status < 0 ? status : error;
}

/* Items to loop over; their bytes live as long as it does. */
class Batch
{
  public:
    explicit Batch(tr_batch *batch) : batch_(batch, tr_batch_release)
    {
    }
    const tr_item *begin() const
    {
        return batch_->items;
    }
    const tr_item *end() const
    {
        return batch_->items + batch_->count;
    }

  private:
    std::unique_ptr<tr_batch, void (*)(tr_batch *)> batch_;
};

class Manager
{
  public:
    Manager() : manager_(open(), tr_manager_free)
    {
    }
    ~Manager()
    {
        (void)tr_manager_close(get(), 0); /* TR_EALREADY, unless an exception brought us here */
    }
    Manager(const Manager &) = delete;
    Manager &operator=(const Manager &) = delete;

    tr_manager *get() const
    {
        return manager_.get();
    }
    tr_tool_id add_tool(const char *name, uint32_t flags, Function function)
    {
        functions_.push_front(std::move(function)); /* a list: what is in it does not move */
        tr_tool_id id = 0;
        tr_tool tool = TR_TOOL_INIT(name, trampoline);
        tool.context = &functions_.front();
        tool.flags = flags;
        check(tr_tool_register(get(), &tool, &id));
        return id;
    }
    void close(uint64_t drain_ns)
    {
        check(tr_manager_close(get(), drain_ns));
    }

  private:
    static tr_manager *open()
    {
        tr_manager *manager = nullptr;
        char message[512] = "";
        tr_config config = TR_CONFIG_INIT;
        config.message = message;
        config.message_size = sizeof message;
        int status = tr_manager_open(&config, &manager);
        if (status < 0) {
            throw std::runtime_error(message);
        }
        return manager;
    }

    std::forward_list<Function> functions_; /* outlives the manager, which calls them */
    std::unique_ptr<tr_manager, void (*)(tr_manager *)> manager_;
};

class Session
{
  public:
    explicit Session(const Manager &manager) : manager_(manager)
    {
        check(tr_session_open(manager.get(), nullptr, &id_));
    }
    ~Session()
    {
        (void)tr_session_close(manager_.get(), id_, TR_CLOSE_DISCARD);
    }
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    const Manager &manager() const
    {
        return manager_;
    }
    tr_session_id id() const
    {
        return id_;
    }

  private:
    const Manager &manager_;
    tr_session_id id_ = 0;
};

class Turn
{
  public:
    explicit Turn(const Session &session) : manager_(session.manager())
    {
        check(tr_turn_open(manager_.get(), session.id(), nullptr, &id_));
    }
    ~Turn()
    {
        (void)tr_turn_close(manager_.get(), id_, TR_CLOSE_DISCARD);
    }
    Turn(const Turn &) = delete;
    Turn &operator=(const Turn &) = delete;

    tr_task_id launch(tr_tool_id tool, std::string_view call_id, std::string_view input)
    {
        tr_launched launched;
        tr_request request = TR_REQUEST_INIT(id_, tool);
        request.call_id = bytes_of(call_id);
        request.input = bytes_of(input);
        check(tr_launch(manager_.get(), &request, &launched));
        return launched.task;
    }
    /* Calls `visit` with every item until nothing of the turn is left. */
    template <typename Visit> void wait(Visit visit)
    {
        tr_batch *items = nullptr;
        while (check(tr_turn_wait(manager_.get(), id_, nullptr, TR_FOREVER, 64, &items)) ==
               TR_WAIT_ITEMS) {
            for (const tr_item &item : Batch(items)) {
                visit(item);
            }
        }
    }

  private:
    const Manager &manager_;
    tr_turn_id id_ = 0;
};

struct Answer {
    tr_outcome outcome;
    std::string text;
    bool operator==(const Answer &other) const
    {
        return outcome == other.outcome && text == other.text;
    }
};

/* One turn of four calls. */
std::map<std::string, Answer> run()
{
    Manager manager;
    std::string greeting = "good morning, ";
    tr_tool_id greet = manager.add_tool(
        "greet", 0, [greeting](Call &call) { return greeting + std::string(call.input()); });
    tr_tool_id divide = manager.add_tool("divide", 0, [](Call &call) {
        int divisor = std::stoi(std::string(call.input())); /* throws at nonsense */
        if (divisor == 0) {
            throw std::domain_error("division by zero");
        }
        return std::to_string(84 / divisor);
    });
    tr_tool_id nap = manager.add_tool("nap", TR_TOOL_AWAITING, [](Call &call) {
        std::string kept = "slept " + std::string(call.input()); /* destroyed in any case */
        call.sleep(TR_MILLISECOND);
        return kept;
    });

    std::map<std::string, Answer> answers;
    Session session(manager);
    Turn turn(session);
    turn.launch(greet, "c1", "Ada");
    turn.launch(divide, "c2", "2");
    turn.launch(divide, "c3", "0");
    turn.launch(nap, "c4", "well");
    turn.wait([&answers](const tr_item &item) {
        Answer answer{item.outcome, std::string(text_of(item.result))};
        if (!answers.emplace(text_of(item.call_id), answer).second) {
            throw std::logic_error("a call was answered twice");
        }
    });
    manager.close(TR_SECOND);
    return answers;
}

} // namespace

int main()
{
    const std::map<std::string, Answer> expected = {
        {"c1", {TR_OUTCOME_COMPLETED, "good morning, Ada"}},
        {"c2", {TR_OUTCOME_COMPLETED, "42"}},
        {"c3", {TR_OUTCOME_FAILED, "division by zero"}},
        {"c4", {TR_OUTCOME_COMPLETED, "slept well"}},
    };
    try {
        const std::map<std::string, Answer> answers = run();
        for (const auto &[call_id, answer] : answers) {
            std::cout << call_id << ": " << answer.text << '\n';
        }
        return answers == expected ? 0 : 1;
    } catch (const std::exception &exception) {
        std::cerr << "host: " << exception.what() << '\n';
        return 1;
    }
}
