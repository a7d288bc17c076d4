package lapse.bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.function.Consumer;
import java.util.function.Predicate;

/** The four recipes of {@code deploy/triggers/recipes.yaml}, all of them active, in Zendesk's cycle. */
final class Recipes {
    private static final List<Recipe> ALL = List.of(
            new Recipe("solve-abandoned", ticket -> ticket.is("status", "open"), ticket -> {
                ticket.set("status", "solved");
                ticket.addTag("abandoned_conversation");
            }),
            new Recipe("email-follow-up", ticket -> true, ticket -> {
                ticket.set("routing_channel", "email");
                ticket.set("group_id", "360000000010");
                ticket.set("priority", "normal");
            }),
            new Recipe("second-queue", ticket -> ticket.is("priority", "high"), ticket -> {
                ticket.set("priority", "low");
                ticket.set("group_id", "360000000020");
            }),
            new Recipe("tag-abandoned", ticket -> true, ticket -> ticket.addTag("abandoned_conversation")));

    private Recipes() {}

    /** Returns the triggers that fired and their net actions, or null when nothing would change. */
    static ObjectNode decide(ObjectNode row, String reason) {
        if (!"user_inactive_or_offline".equals(reason) || "closed".equals(row.path("status").asText())) {
            return null;
        }
        WorkingCopy ticket = new WorkingCopy(row);
        List<Recipe> left = new ArrayList<>(ALL);
        List<String> fired = new ArrayList<>();
        for (int place = 0; place < left.size(); ) {
            Recipe recipe = left.get(place);
            if (!recipe.condition().test(ticket)) {
                place++;
                continue;
            }
            left.remove(place);
            fired.add(recipe.id());
            ticket.changed = false;
            recipe.actions().accept(ticket);
            if (ticket.changed) {
                place = 0;
            }
        }
        ArrayNode actions = ticket.actions();
        if (actions.isEmpty()) {
            return null;
        }
        ObjectNode command = LapseOnKafkaStreams.JSON.createObjectNode();
        ArrayNode triggers = command.putArray("triggers");
        fired.forEach(id -> triggers.addObject().put("id", id));
        command.set("actions", actions);
        return command;
    }

    private record Recipe(String id, Predicate<WorkingCopy> condition, Consumer<WorkingCopy> actions) {}

    /** The ticket as earlier triggers of the round have changed it. */
    private static final class WorkingCopy {
        private final ObjectNode row;
        private final Map<String, String> set = new LinkedHashMap<>();
        private final TreeSet<String> added = new TreeSet<>();
        boolean changed;

        WorkingCopy(ObjectNode row) {
            this.row = row;
        }

        boolean is(String field, String value) {
            return value.equals(now(field));
        }

        void set(String field, String value) {
            changed |= !value.equals(now(field));
            set.put(field, value);
        }

        void addTag(String tag) {
            changed |= !hasTag(tag) & added.add(tag);
        }

        ArrayNode actions() {
            ArrayNode actions = LapseOnKafkaStreams.JSON.createArrayNode();
            set.forEach((field, value) -> {
                if (!value.equals(before(field))) {
                    actions.addObject().put("field", field).put("value", value);
                }
            });
            ArrayNode tags = LapseOnKafkaStreams.JSON.createArrayNode();
            added.stream().filter(tag -> !hasTag(tag)).forEach(tags::add);
            if (!tags.isEmpty()) {
                actions.addObject().put("field", "add_tags").set("value", tags);
            }
            return actions;
        }

        private String now(String field) {
            return set.containsKey(field) ? set.get(field) : before(field);
        }

        private String before(String field) {
            JsonNode value = row.get(field);
            return value == null || value.isNull() ? null : value.asText();
        }

        private boolean hasTag(String tag) {
            for (JsonNode each : row.path("tags")) {
                if (each.asText().equals(tag)) {
                    return true;
                }
            }
            return false;
        }
    }
}
