package lapse.bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.Locale;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** Keeps the two tables, sees lapses, and forwards their commands. */
final class Join implements Processor<String, ObjectNode, String, ObjectNode> {
    private final String ticketsTopic;
    private ProcessorContext<String, ObjectNode> context;
    private KeyValueStore<String, ObjectNode> tickets;
    private KeyValueStore<String, ObjectNode> sessions;

    Join(String ticketsTopic) {
        this.ticketsTopic = ticketsTopic;
    }

    @Override
    public void init(ProcessorContext<String, ObjectNode> context) {
        this.context = context;
        tickets = context.getStateStore(LapseOnKafkaStreams.TICKETS);
        sessions = context.getStateStore(LapseOnKafkaStreams.SESSIONS);
    }

    @Override
    public void process(Record<String, ObjectNode> record) {
        if (context.recordMetadata().orElseThrow().topic().equals(ticketsTopic)) {
            takeTicket(record.key(), (ObjectNode) record.value().get("ticket"));
        } else {
            takeSession(record);
        }
    }

    /** Members present replace, members absent stay; custom fields merge by their id. */
    private void takeTicket(String ticketId, ObjectNode changes) {
        ObjectNode row = tickets.get(ticketId);
        if (row == null) {
            row = changes;
        } else {
            JsonNode custom = row.get("custom_fields");
            row.setAll(changes);
            if (custom != null && changes.get("custom_fields") instanceof ObjectNode newer) {
                row.set("custom_fields", ((ObjectNode) custom).setAll(newer));
            }
        }
        tickets.put(ticketId, row);
    }

    private void takeSession(Record<String, ObjectNode> record) {
        ObjectNode event = record.value();
        ObjectNode row = sessions.get(record.key());
        if (row == null) {
            row = LapseOnKafkaStreams.JSON.createObjectNode().put("episode", 0);
        }
        String before = text(row, "state");
        String state = name(text(event, "state"));
        String reason = name(text(event, "reason"));
        boolean lapsed = "inactive".equals(state) && !"inactive".equals(before) && !"ended".equals(before);
        int episode = row.get("episode").intValue() + (lapsed ? 1 : 0);
        row.put("state", state)
                .put("reason", reason)
                .put("session_id", text(event, "session_id"))
                .put("channel", text(event, "channel"))
                .put("occurred_at", text(event, "occurred_at"))
                .put("episode", episode);
        sessions.put(record.key(), row);
        if (!lapsed) {
            return;
        }
        ObjectNode ticket = tickets.get(record.key());
        if (ticket == null) {
            return;
        }
        ObjectNode command = Recipes.decide(ticket, reason);
        if (command != null) {
            command.put("ticket_id", record.key());
            command.putObject("transition").put("episode", episode).put("event_id", text(event, "event_id"));
            context.forward(record.withValue(command));
        }
    }

    private static String text(ObjectNode node, String member) {
        JsonNode found = node.get(member);
        return found == null || found.isNull() ? null : found.asText();
    }

    /** {@code User inactive or offline} becomes {@code user_inactive_or_offline}. */
    private static String name(String text) {
        return text == null ? null : text.toLowerCase(Locale.ROOT).replace(' ', '_');
    }
}
