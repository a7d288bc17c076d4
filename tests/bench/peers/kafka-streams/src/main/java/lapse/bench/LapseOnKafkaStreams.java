package lapse.bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * What Lapse does on this workload, as a Kafka Streams program: both topics merged by time, a table each, the four
 * recipes, one command a lapse, exactly once.
 *
 * <p>One argument: a properties file. Names beginning with {@code bench.} say which topics and whether stores are
 * cached; all others go to Kafka Streams as they are. Ends on SIGTERM.
 */
public final class LapseOnKafkaStreams {
    static final ObjectMapper JSON = new ObjectMapper();
    static final String TICKETS = "tickets";
    static final String SESSIONS = "sessions";

    private LapseOnKafkaStreams() {}

    /** Runs until it is told to stop; exit code 1 when a stream thread fails. */
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        try (var reader = Files.newBufferedReader(Path.of(arguments[0]))) {
            properties.load(reader);
        }
        KafkaStreams streams = new KafkaStreams(topology(properties), properties);
        CountDownLatch ended = new CountDownLatch(1);
        streams.setStateListener((now, before) -> {
            System.out.println("state " + now);
            if (now == KafkaStreams.State.ERROR) {
                ended.countDown();
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        ended.await();
        Runtime.getRuntime().halt(1);
    }

    static Topology topology(Properties properties) {
        Serde<ObjectNode> json = Serdes.serdeFrom((topic, node) -> write(node), (topic, bytes) -> read(bytes));
        String tickets = properties.getProperty("bench.tickets");
        String sessions = properties.getProperty("bench.sessions");
        ProcessorSupplier<String, ObjectNode, String, ObjectNode> join = () -> new Join(tickets);
        boolean cached = Boolean.parseBoolean(properties.getProperty("bench.cached"));
        return new Topology()
                .addSource("ticket-updates", Serdes.String().deserializer(), json.deserializer(), tickets)
                .addSource("session-states", Serdes.String().deserializer(), json.deserializer(), sessions)
                .addProcessor("join", join, "ticket-updates", "session-states")
                .addStateStore(store(TICKETS, json, cached), "join")
                .addStateStore(store(SESSIONS, json, cached), "join")
                .addSink(
                        "action-commands",
                        properties.getProperty("bench.commands"),
                        Serdes.String().serializer(),
                        json.serializer(),
                        "join");
    }

    private static StoreBuilder<KeyValueStore<String, ObjectNode>> store(
            String name, Serde<ObjectNode> json, boolean cached) {
        var builder = Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(name), Serdes.String(), json);
        return cached ? builder.withCachingEnabled() : builder.withCachingDisabled();
    }

    private static byte[] write(ObjectNode node) {
        try {
            return node == null ? null : JSON.writeValueAsBytes(node);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static ObjectNode read(byte[] bytes) {
        try {
            return bytes == null ? null : (ObjectNode) JSON.readTree(bytes);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
